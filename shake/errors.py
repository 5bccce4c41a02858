"""Every error that ends a run: one clear line for the user, one exit status for the script."""

from __future__ import annotations

from shake.stream.suspicion import Question

_WRONG_ACCESS_KEY = (
    "the access key is wrong: check source.access_key_id, source.profile or the AWS environment"
)
#: What to do about keys that the source does not take.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/CommonErrors.html
_WRONG_KEYS = {
    "UnrecognizedClientException": _WRONG_ACCESS_KEY,
    "InvalidClientTokenId": _WRONG_ACCESS_KEY,
    "InvalidSignatureException": "the secret key is wrong: check source.secret_access_key, "
    "source.profile or the AWS environment",
}


class ShakeError(Exception):
    """Base of all errors that shake raises on purpose; the message is the line shown on stderr."""

    exit_status = 1
    #: Whether the error can pass by itself, without any action of the user.
    passes = False


class RunError(ShakeError):
    """The task failed while it ran."""


class IndexRefused(RunError):
    """Some indexes were refused, but not the one that keeps each key to one document."""


class UsageError(ShakeError):
    """The command line or the configuration is wrong."""

    exit_status = 2


class RefusedError(ShakeError):
    """A pre-flight check refused to start; nothing was changed."""

    exit_status = 3

    def __init__(self, message: str, *, passes: bool = False) -> None:
        self.passes = passes
        super().__init__(message)


class GapError(ShakeError):
    """A stream has lost records that were not applied; ``remedy`` is what the user can do.

    ``question`` asks the source once more, None where the loss is not the source's.
    """

    exit_status = 4

    def __init__(
        self,
        table: str,
        what: str,
        remedy: str = "start again with gap.policy = resync to copy the table again; its "
        "collection is replaced when the new copy is complete",
        *,
        question: Question | None = None,
    ) -> None:
        self.question = question
        self.table = table
        self.what = what
        super().__init__(f"table {table}: changes are lost: {what}; {remedy}")


class SourceError(RunError):
    """DynamoDB gave an answer that no waiting cures (access denied, no such table, bad request)."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        self.operation = operation
        self.code = code
        self.message = message
        text = f"{operation} was refused by the source: {code}: {message}"
        super().__init__("; ".join(filter(None, [text, _WRONG_KEYS.get(code)])))


class ItemError(RunError):
    """An item that cannot be stored.

    The codec raises it with the item's key (as DynamoDB JSON text) and the reason. A caller that
    knows the table adds its name with :meth:`of_table`.
    """

    def __init__(self, key: str, reason: str, table: str | None = None) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"table {table or '?'}: item {key}: {reason}")

    def of_table(self, table: str) -> ItemError:
        """The same error, naming the table."""
        return ItemError(self.key, self.reason, table)


class Stopped(ShakeError):
    """A wait was cut short because the task is stopping; never shown to the user."""
