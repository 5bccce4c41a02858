"""Which errors of MongoDB are retried, and the retries."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from shake.backoff import Backoff
from shake.errors import Stopped
from shake.targets.deadline import Deadline

T = TypeVar("T")

#: Waits between tries.
BACKOFF = Backoff(first=0.05, longest=5.0, least=0.5)

#: Seconds that the election of a primary can take before the start.
#: Source: https://www.mongodb.com/docs/manual/core/replica-set-elections/
ELECTION_SECONDS = 30.0

#: Server codes that pass: elections, shutdowns, interruptions, lost connections behind a mongos,
#: lock and write conflicts, routing tables that are being refreshed, index builds under way; and
#: the throttling of Azure Cosmos DB.
#: Source: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
#: Source: https://learn.microsoft.com/en-us/azure/cosmos-db/mongodb/error-codes-solutions
TRANSIENT_CODES = frozenset(
    {
        *(6, 7, 89, 202, 279, 317, 384, 9001),  # network
        *(91, 189, 10107, 11600, 11601, 11602, 13435, 13436),  # election, shutdown, interruption
        *(24, 46, 112, 117, 365, 462),  # locks, conflicts, overload
        *(50, 64, 134, 262),  # time limits
        *(63, 82, 133, 150, 211, 246, 249, 13388),  # routing and metadata
        *(175, 237, 276, 285, 314, 12586, 12587),  # indexes that come and go; background work
        391,  # reauthentication
        16500,  # too many requests
    }
)

#: Write concerns that the replica set can never fulfil: an unknown mode, more members than it has.
HOPELESS_CONCERNS = frozenset({79, 100})

#: Codes of write errors that name one document, but have another cause: missing rights, a full
#: disk, a quota of Atlas.
NOT_OF_A_DOCUMENT = frozenset({13, 8000, 14031})
#: Codes by which a server refuses a whole command for one document: Overflow (it is nested too
#: deeply), BSONObjectTooLarge.
_OF_A_DOCUMENT = frozenset({15, 10334})

#: How errors name their code where they do not have it as a field.
_CODE = re.compile(r"\bE(?:rror=)?([0-9]{4,5})\b")

#: How a server names what it does not allow: it shows the command with all that is in it.
_COMMAND = re.compile(r" to execute command \{ (\w+):.*\}", re.DOTALL)

#: How often one call can be Contended: with the waits between, for about a minute. After that it is
#: no chance, as where one shard of a damaged cluster has another collection than the others.
MAX_CONTESTS = 20

LABELS = ("RetryableWriteError", "TransientTransactionError", "RetryableError")


def transient(error: PyMongoError) -> bool:
    """Whether the same call can succeed later, without any action of the user.

    A BulkWriteError is transient when one of its errors is. The exception is a write concern that
    the server can never satisfy.
    """
    if isinstance(error, BulkWriteError):
        concerns = set(map(code_of, error.details["writeConcernErrors"]))
        if concerns & HOPELESS_CONCERNS:
            return False
        return bool(concerns) or any(map(is_transient_write, error.details["writeErrors"]))
    if isinstance(error, ConnectionFailure) or error.timeout:
        return True
    if any(error.has_error_label(label) for label in LABELS):
        return True
    if isinstance(error, WriteConcernError):
        return error.code not in HOPELESS_CONCERNS
    if not isinstance(error, OperationFailure):
        return False
    return code_of({"code": error.code, "errmsg": str(error)}) in TRANSIENT_CODES


def is_transient_write(error: Mapping[str, Any]) -> bool:
    """Whether one entry of ``writeErrors`` may succeed later."""
    return code_of(error) in TRANSIENT_CODES


def is_of_a_document(error: PyMongoError) -> bool:
    """Whether a whole command was refused for one of its documents, which it does not name."""
    return isinstance(error, OperationFailure) and error.code in _OF_A_DOCUMENT


def code_of(error: Mapping[str, Any]) -> int:
    """The code of a server's error: its field, or else what its text names, or else 0."""
    if (code := error.get("code")) is not None:
        return int(code)
    found = _CODE.search(str(error.get("errmsg", "")))
    return int(found[1]) if found else 0


def words(error: PyMongoError) -> str:
    """The error in one line, in the server's own words, without the driver's topology dump."""
    details = error.details if isinstance(error, (OperationFailure, AutoReconnect)) else None
    text = None
    if isinstance(details, Mapping):
        entries = details.get("writeConcernErrors") or details.get("writeErrors") or [details]
        text = entries[-1].get("errmsg")
    plain = str(text or error).partition(", full error:")[0]
    plain = _COMMAND.sub(r" to run \1", plain)
    return " ".join(plain.partition(", Timeout:")[0].partition(" (configured timeouts:")[0].split())


def after_election(
    client: MongoClient[Any], on_retry: Callable[[str], None], call: Callable[[], T]
) -> T:
    """The result of ``call``, which is repeated while the replica set elects a primary.

    ``on_retry`` gets the reason of each failed try. Other errors pass through at once: a server
    that is not there is not waited for.
    """
    end, tries = time.monotonic() + ELECTION_SECONDS, 0
    while True:
        try:
            return call()
        except PyMongoError as error:
            if time.monotonic() >= end or not _electing(client, error):
                raise
            on_retry(words(error))
        tries += 1
        time.sleep(BACKOFF.pause(tries))


def _electing(client: MongoClient[Any], error: PyMongoError) -> bool:
    """Whether the error is one of an election: members answer, and none is the primary."""
    if isinstance(error, (ServerSelectionTimeoutError, ExecutionTimeout)):
        return client.topology_description.has_known_servers
    return transient(error) and not error.timeout


class Contended(AutoReconnect):
    """Another write got in between; the next try finds what it did."""


class Retrier:
    """Repeats a call while its errors are transient, for as long as they last.

    Each try waits for ``deadline``. ``on_retry`` gets namespace and reason of a failed one.
    Waits between tries end at once when ``stop`` is set: then Stopped is raised.
    """

    def __init__(
        self,
        stop: threading.Event,
        on_retry: Callable[[str], None],
        deadline: Deadline | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._stop = stop
        self.on_retry = on_retry
        self._deadline = deadline or Deadline()
        self._jitter = jitter

    def call(self, namespace: str, call: Callable[[], T]) -> T:
        """The result of ``call``; its errors that no waiting cures pass through."""
        contests = tries = 0
        while True:
            self._deadline.wait()
            try:
                return call()
            except PyMongoError as error:
                contests += isinstance(error, Contended)
                if not transient(error) or contests > MAX_CONTESTS:
                    raise
                self.on_retry(f"{namespace}: {words(error)}")
            tries += 1
            if self._stop.wait(BACKOFF.pause(tries, self._jitter)):
                raise Stopped(f"{namespace}: stopped while the target did not answer")
