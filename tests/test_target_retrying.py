"""What is tried again, after which pause, and what is logged of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from shake.errors import Stopped
from shake.targets.mongodb.retrying import (
    BACKOFF,
    MAX_CONTESTS,
    Contended,
    Retrier,
    transient,
    words,
)


class Waits(threading.Event):
    """An event that is never set, and says how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return self.is_set()


class Flaky:
    """Fails with the same error a number of times, then answers."""

    def __init__(self, failures: int, error: PyMongoError) -> None:
        self.failures = failures
        self.error = error

    def __call__(self) -> str:
        if self.failures:
            self.failures -= 1
            raise self.error
        return "done"


def bulk(*writes: int, concerns: tuple[int, ...] = ()) -> BulkWriteError:
    return BulkWriteError(
        {
            "writeErrors": [{"index": 0, "code": code, "errmsg": f"e{code}"} for code in writes],
            "writeConcernErrors": [{"code": code, "errmsg": f"c{code}"} for code in concerns],
        }
    )


def labelled(label: str) -> PyMongoError:
    return OperationFailure("x", 8, {"errorLabels": [label]})


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("connection closed"),
        NetworkTimeout("timed out"),
        NotPrimaryError("not primary"),
        ServerSelectionTimeoutError("no primary"),
        ExecutionTimeout("exceeded", 50),
        WTimeoutError("waiting", 64),
        WriteConcernError("shutting down", 91),
        OperationFailure("write conflict", 112),
        labelled("RetryableWriteError"),
        bulk(11000, 189),
        bulk(175),  # an index that the plan of an update used was dropped
        bulk(concerns=(64,)),
        bulk(11000, concerns=(64,)),
    ],
    ids=repr,
)
def test_waiting_cures_it(error: PyMongoError) -> None:
    assert transient(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("not authorized", 13),
        OperationFailure("authentication failed", 18),
        OperationFailure("disk full", 14031),
        WriteConcernError("no such mode", 79),
        ConfigurationError("bad option"),
        bulk(11000),
        bulk(concerns=(100,)),
        bulk(189, concerns=(100,)),
    ],
    ids=repr,
)
def test_no_waiting_cures_it(error: PyMongoError) -> None:
    assert not transient(error)


def test_waits_double_up_to_the_longest_and_are_jittered() -> None:
    stop = Waits()
    told: list[str] = []
    retrier = Retrier(stop, told.append, jitter=lambda: 1.0)
    assert retrier.call("d.c", Flaky(12, AutoReconnect("gone"))) == "done"
    assert stop.seconds[:4] == [BACKOFF.first * n for n in (1, 2, 4, 8)]
    assert stop.seconds[-1] == BACKOFF.longest
    assert told == ["d.c: gone"] * 12
    Retrier(stop, told.append, jitter=lambda: 0.0).call("d.c", Flaky(1, AutoReconnect("gone")))
    assert stop.seconds[-1] == BACKOFF.first / 2


def test_what_no_waiting_cures_passes_through_at_once() -> None:
    stop = Waits()
    with pytest.raises(OperationFailure):
        Retrier(stop, pytest.fail).call("d.c", Flaky(1, OperationFailure("no", 13)))
    assert not stop.seconds


def test_what_is_contended_again_and_again_ends() -> None:
    """As where one shard refuses the UUID that all others have."""
    stop = Waits()
    retrier = Retrier(stop, lambda reason: None)
    assert retrier.call("d.c", Flaky(MAX_CONTESTS, Contended("shard"))) == "done"
    with pytest.raises(Contended):
        retrier.call("d.c", Flaky(MAX_CONTESTS + 1, Contended("shard")))
    assert sum(stop.seconds[-MAX_CONTESTS:]) > 30


def test_stop_cuts_the_wait_and_not_the_work() -> None:
    stop = threading.Event()
    stop.set()
    retrier = Retrier(stop, lambda reason: None)
    assert retrier.call("d.c", Flaky(0, AutoReconnect("gone"))) == "done"
    with pytest.raises(Stopped):
        retrier.call("d.c", Flaky(1, AutoReconnect("gone")))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OperationFailure("x, full error: {}", 1, {"errmsg": "no\nroom"}), "no room"),
        (OperationFailure("x, full error: {'ok': 0}", 1), "x"),
        (AutoReconnect("h:1: closed (configured timeouts: connectTimeoutMS: 1)"), "h:1: closed"),
        (
            ServerSelectionTimeoutError(
                "h:1: refused (configured timeouts: a), Timeout: 1.0s, Topology Description: <...>"
            ),
            "h:1: refused",
        ),
        (bulk(112, 189), "e189"),
        (bulk(112, concerns=(64,)), "c64"),
    ],
)
def test_an_error_is_one_line_in_the_servers_words(error: Any, line: str) -> None:
    assert words(error) == line
