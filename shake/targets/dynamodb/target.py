"""Any endpoint that speaks the DynamoDB protocol as a target: tables made like the source's.

The configuration has no credentials for it: requests are signed with the source's, which the
endpoints that NimoShake's users have do not look at, and which fit another region of AWS.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from shake.config import Config
from shake.errors import RefusedError, RunError, SourceError, Stopped
from shake.schema import Table
from shake.source.answer import NOT_FOUND
from shake.source.client import Client, Retry, Unreachable
from shake.source.endpoint import Credentials, Endpoint
from shake.targets.contract import NO_FENCE, CopyRun, Fence, Found
from shake.targets.deadline import Deadline
from shake.targets.dynamodb.schema import create_request, table_name
from shake.targets.dynamodb.writing import DynamoWriter, refusal

Access: TypeAlias = tuple[Endpoint, Callable[[], Credentials]]

#: Tries of each request of a probe before the target counts as unreachable.
MAX_TRIES = 5
#: Seconds between looks at a table that is being created or deleted.
POLL = 0.25

#: Source: https://docs.aws.amazon.com/general/latest/gr/ddb.html
_AWS_HOST = re.compile(
    r".*\.([a-z]{2,}(?:-[a-z]+)+-\d+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)"
)

#: What distinguishes one table from every other.
_IDENTITY = ("TableArn", "TableId", "CreationDateTime")

_BUSY = "ResourceInUseException"


class DynamoTarget:
    """The Target of ``target.address`` (see targets.contract).

    ``stop`` cuts waits short; ``on_retry`` is called for every try that is repeated. ``access``
    is the source's endpoint and its credentials, where the process has them already. Raises
    RefusedError where no credentials are found.
    """

    weaknesses: tuple[str, ...] = ()
    unfenced = "it keeps no numbers of commands"
    user = ""
    takes_uuids = True  # nothing is replaced: the protocol has no fence

    def __init__(
        self,
        config: Config,
        stop: threading.Event,
        on_retry: Callable[[str], None],
        deadline: Deadline | None = None,
        access: Access | None = None,
    ) -> None:
        self._config = config
        self._stop = stop
        self._deadline = deadline or Deadline()
        self._on_retry = on_retry
        source, credentials = access or _open(config)
        address = config.target_address
        region = signing_region(address) or source.region

        def allowed() -> Credentials:
            """Asked for before each try, and given when this process is allowed to write."""
            self._deadline.wait()
            return credentials()

        def retried(retry: Retry) -> None:
            on_retry(f"{retry.operation}: {retry.reason}")

        def connect(endpoint: Endpoint) -> Client:
            return Client(endpoint, allowed, on_retry=retried, stop=stop)

        self.client = connect(replace(source, url=address, region=region))
        self._source = connect(source)

    def probe(self, namespaces: list[str]) -> None:
        """See Target. Leaves nothing behind: it deletes by a key that no item can have."""
        names = Counter(map(table_name, namespaces))
        if twice := [name for name, times in names.items() if times > 1]:
            raise RefusedError(
                f"{names[twice[0]]} tables would go to table {twice[0]}: a DynamoDB endpoint has "
                "no databases; give each another name by namespace.map"
            )
        for namespace in namespaces:
            with _refused():
                self._probe(namespace)

    def missing_rights(self, namespaces: list[str]) -> list[str]:
        return []

    def find(self, namespace: str, table: Table) -> Found | None:
        """See Target: a table of this name, in whatever state."""
        found = self.describe(namespace)
        return None if found is None else Found(str(found.get("TableId") or ""), has_key_index=True)

    def seen(self, namespace: str, table: Table) -> Found | None:
        """See Target. Raises RefusedError where that is the source's own table."""
        with _refused():
            self._look(namespace)
            return self.find(namespace, table)

    def drop(self, namespace: str) -> None:
        """Delete the table, and return when it is gone; harmless when there is none."""
        while (found := self.describe(namespace)) is not None:
            if _state(found) != "DELETING":
                name = table_name(namespace)
                self._ask(namespace, "DeleteTable", {"TableName": name}, _BUSY, NOT_FOUND)
            self._pause(namespace)

    def staging(
        self, namespace: str, table: Table, copy: CopyRun, notice: Callable[[str], None]
    ) -> None:
        """See Target: DynamoDB cannot rename a table."""

    def create(self, namespace: str, table: Table) -> None:
        """Create the table with its indexes, and return when it can be written to."""
        while (found := self.describe(namespace)) is None or _state(found) not in (
            "ACTIVE",
            "UPDATING",
        ):
            if found is None:
                self._ask(
                    namespace, "CreateTable", create_request(namespace, table, self._config), _BUSY
                )
            self._pause(namespace)

    def writer(self, namespace: str, table: Table, fence: Fence = NO_FENCE) -> DynamoWriter:
        """A writer that shares this target's connections."""
        return DynamoWriter(self.client, namespace, table, self._config, self._on_retry)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()
        self._source.close()

    def _look(self, namespace: str) -> None:
        """Raise an error where the target does not answer, or RefusedError for a source table."""
        name = table_name(namespace)
        found = self.describe(namespace, max_tries=MAX_TRIES)
        if found is not None and self._config.selects_table(name) and self._is_source(name, found):
            raise RefusedError(
                f"{namespace}: the target's table {name} is the source's own: set target.address "
                "to another endpoint, or give another name by namespace.map"
            )

    def _probe(self, namespace: str) -> None:
        self._look(namespace)
        name = table_name(namespace)
        request: dict[str, Any] = {"RequestItems": {name: [{"DeleteRequest": {"Key": {}}}]}}
        accepted = ("ValidationException", NOT_FOUND)  # which come after the permission's check
        self._ask(namespace, "BatchWriteItem", request, *accepted, max_tries=MAX_TRIES)

    def _is_source(self, name: str, found: dict[str, Any]) -> bool:
        """Whether a table of the target is a source table, whatever way leads there."""
        try:
            source = self._source.ask("DescribeTable", {"TableName": name}, max_tries=MAX_TRIES)
        except SourceError as error:
            if error.code == NOT_FOUND:
                return False
            raise
        identity = [found.get(field) for field in _IDENTITY]
        return any(identity) and identity == [source["Table"].get(f) for f in _IDENTITY]

    def describe(self, namespace: str, *, max_tries: int | None = None) -> dict[str, Any] | None:
        """The table as DescribeTable shows it; None where there is none."""
        request = {"TableName": table_name(namespace)}
        answer = self._ask(namespace, "DescribeTable", request, NOT_FOUND, max_tries=max_tries)
        return None if answer is None else answer["Table"]

    def _ask(
        self,
        namespace: str,
        operation: str,
        request: dict[str, Any],
        *accepted: str,
        max_tries: int | None = None,
    ) -> dict[str, Any] | None:
        """The target's answer; None where it is an error of an accepted code."""
        try:
            return self.client.ask(operation, request, max_tries=max_tries)
        except SourceError as error:
            if error.code in accepted:
                return None
            raise refusal(namespace, error) from error

    def _pause(self, namespace: str) -> None:
        if self._stop.wait(POLL):
            raise Stopped(f"{namespace}: stopped while the target created or deleted the table")


def _open(config: Config) -> Access:
    # Imported here: it brings boto3, which a process with credentials does not need.
    from shake.source.aws_session import open_source

    return open_source(config)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Raise RefusedError for what the target refuses, or where it does not answer."""
    try:
        yield
    except Unreachable as error:
        raise RefusedError(
            f"target.address: the target does not answer: {error.reason}", passes=True
        ) from error
    except RunError as error:
        raise RefusedError(f"{error} (asked with the source's credentials)") from error


def signing_region(address: str) -> str | None:
    """The region in the name of an AWS endpoint, None for other hosts, which do not care."""
    found = _AWS_HOST.fullmatch(urlsplit(address).hostname or "")
    return found[1] if found else None


def _state(description: dict[str, Any]) -> str:
    return str(description.get("TableStatus", "ACTIVE"))
