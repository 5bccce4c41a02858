"""Every error that ends a run: one clear line for the user, one exit status for the script."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from shake.schema import Question

#: What to do about an item that cannot be stored.
KEEP_ADVICE = "; bad.items = keep sets such items aside and goes on"


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


class TaskRunning(RefusedError):
    """Another process, ``runner``, runs this task; a later try can succeed."""

    def __init__(self, message: str, runner: str) -> None:
        self.runner = runner
        super().__init__(message, passes=True)


def refuse(refusals: Sequence[str], where: str = "--dry-run shows all") -> None:
    """Raise RefusedError with the first of the refusals, if there is one.

    ``where`` says where the others are shown.
    """
    if refusals:
        more = f" (and {len(refusals) - 1} more: {where})" if refusals[1:] else ""
        raise RefusedError(f"{refusals[0]}{more}")


@contextlib.contextmanager
def as_refusal(*kinds: type[ShakeError]) -> Iterator[None]:
    """Raise RefusedError in the place of errors of these kinds, since nothing has run yet."""
    try:
        yield
    except kinds as error:
        raise RefusedError(str(error), passes=error.passes) from error


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
    """DynamoDB gave an answer that no waiting cures (access denied, no such table, bad request).

    ``advice`` is what the user can do, where that is known. A caller that knows the table adds its
    name with :meth:`of_table`.
    """

    def __init__(
        self, operation: str, code: str, message: str, advice: str = "", table: str = ""
    ) -> None:
        self.operation = operation
        self.code = code
        self.message = message
        self._advice = advice
        reason = ": ".join(filter(None, [code, message]))
        of_table = f"table {table}: " if table else ""
        text = f"{of_table}{operation} was refused by the source: {reason}"
        super().__init__("; ".join(filter(None, [text, advice])))

    def of_table(self, table: str) -> SourceError:
        """The same error, naming the table."""
        return SourceError(self.operation, self.code, self.message, self._advice, table)


class ItemError(RunError):
    """An item that cannot be stored.

    The codec raises it with the item's key (as DynamoDB JSON text) and the reason. A caller that
    knows the table adds its name with :meth:`of_table`.
    """

    def __init__(
        self, key: str, reason: str, table: str | None = None, *, can_be_kept: bool = False
    ) -> None:
        self.key = key
        self.reason = reason
        self._can_be_kept = can_be_kept
        advice = KEEP_ADVICE if can_be_kept else ""
        super().__init__(f"table {table or '?'}: item {key}: {reason}{advice}")

    def of_table(self, table: str) -> ItemError:
        """The same error, naming the table."""
        return ItemError(self.key, self.reason, table, can_be_kept=self._can_be_kept)


class Stopped(ShakeError):
    """A wait was cut short because the task is stopping; never shown to the user."""
