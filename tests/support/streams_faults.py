"""What goes wrong between the simulated source and its client: by schedule, or by seeded chance."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tests.support.faulty import Reply


@dataclass
class Call:
    """One request: what it asked for, and when, by ``time.monotonic``.

    ``shard`` is also that of an iterator; ``status`` is the answer's, 0 while it is under way, and
    ``error`` the name of its error. ``trial``: a check before the start sends it, to learn whether
    it is allowed.
    """

    operation: str
    request: dict[str, Any]
    began: float
    table: str = ""
    shard: str = ""
    ended: float = float("inf")
    status: int = 0
    error: str = ""
    trial: bool = False


#: Makes the reply to a call; the function that it is given carries the call out.
Fault = Callable[[Call, Callable[[], Reply]], Reply]


class Faults:
    """Which calls fail, and how: what is queued for an operation comes first, then the rules."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._queues: dict[str, deque[Fault | None]] = defaultdict(deque)
        self._rules: list[tuple[float, tuple[Fault, ...], Callable[[Call], bool]]] = []

    def next(self, operation: str, *faults: Fault | None) -> None:
        """What happens to the next calls of an operation, one by one; to None nothing."""
        self._queues[operation].extend(faults)

    def rule(
        self, share: float, *faults: Fault, where: Callable[[Call], bool] = lambda call: True
    ) -> None:
        """From now on a share of all calls, or of those ``where``, meets one of the faults."""
        self._rules.append((share, faults, where))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._queues.clear()
        self._rules.clear()

    def take(self, call: Call) -> Fault | None:
        """The fault of this call: of the queues, unless it is a trial, or by the rules."""
        if not call.trial and self._queues[call.operation]:
            return self._queues[call.operation].popleft()
        for share, faults, where in self._rules:
            if where(call) and self._rng.random() < share:
                return self._rng.choice(faults)
        return None


def instead(reply: Reply) -> Fault:
    """Nothing is done, and this is the answer: ``instead(error("ThrottlingException"))``."""
    return lambda call, answer: reply


def calling(action: Callable[[], object]) -> Fault:
    """The call waits for an action of the test; then it is answered well."""

    def fault(call: Call, answer: Callable[[], Reply]) -> Reply:
        action()
        return answer()

    return fault


def slow(seconds: float) -> Fault:
    """The answer takes its time."""
    return lambda call, answer: replace(answer(), slow=seconds)


def cut(call: Call, answer: Callable[[], Reply]) -> Reply:
    """The connection breaks in the middle of the body."""
    reply = answer()
    return replace(reply, cut=len(reply.body) // 2)


def corrupt(call: Call, answer: Callable[[], Reply]) -> Reply:
    """One byte of the body is another one, which only the checksum shows."""
    reply = answer()
    body, at = bytearray(reply.body), len(reply.body) // 2
    body[at] ^= 1
    return replace(reply, body=bytes(body), crc=zlib.crc32(reply.body))


def shortened(call: Call, answer: Callable[[], Reply]) -> Reply:
    """Of the body an object is left that parses, but lacks its last member.

    Without its NextShardIterator an answer of GetRecords looks like the end of the shard.
    """
    reply = answer()
    members = orjson.loads(reply.body)
    members.popitem()
    return replace(reply, body=orjson.dumps(members), crc=zlib.crc32(reply.body))
