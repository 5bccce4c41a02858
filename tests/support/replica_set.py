"""A replica set of several mongod on this machine, whose members fail and come back.

A fail-over takes about two seconds: elections are called after one second without a primary. After
SIGSTOP, a majority write can take 30 seconds: so long a member waits for an answer of the hanging
one when it has just chosen it to replicate from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Self

from shake.demo.mongo import VERSION, Mongod
from shake.demo.servers import HOST, free_port
from tests.support.wait import until

#: A member that holds data, and one that only votes.
DATA, ARBITER = "data", "arbiter"
NAME = "shake"
#: Source: https://www.mongodb.com/docs/manual/reference/replica-configuration/ (settings)
FAST = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200, "heartbeatTimeoutSecs": 1}
#: Seconds that a member waits for one that hangs, before it replicates from another; else 5.
PATIENCE = ("--setParameter", "oplogNetworkTimeoutBufferSeconds=1")


class Member(Mongod):
    """A member: it answers as soon as it is up, in whatever state."""

    def answers(self) -> bool:
        return bool(self.ask("hello"))

    @property
    def host(self) -> str:
        """Its name in the set's configuration."""
        return f"{HOST}:{self.port}"

    def hello(self) -> dict[str, Any]:
        """What it says of itself; empty while it is down or hangs."""
        return dict(self.ask("hello", timeout=1))


class ReplicaSet:
    """The set, a context manager; ``members`` are servers with ``kill``, ``signal``, ``restart``.

    ``roles`` are DATA or ARBITER, one for each member; ``options`` go to each mongod, ``settings``
    into the set's configuration. Without arbiters and options it is three members with data.
    """

    def __init__(
        self,
        folder: Path,
        roles: Sequence[str] = (DATA, DATA, DATA),
        *options: str,
        version: str = VERSION,
        **settings: object,
    ) -> None:
        self.roles = roles
        self.settings = {**FAST, **settings}
        self.members = [
            Member(
                *PATIENCE, *options, version=version, replica_set=NAME, folder=folder / str(number)
            )
            for number in range(len(roles))
        ]

    @property
    def plain_uri(self) -> str:
        """A connection string that names the members and not the set."""
        return f"mongodb://{','.join(member.host for member in self.members)}/"

    @property
    def uri(self) -> str:
        """The connection string with the set's name."""
        return f"{self.plain_uri}?replicaSet={NAME}"

    def primary(self, deadline: float = 30.0) -> Member:
        """The primary, as soon as there is one; of two that claim it, the one elected later."""

        def elected() -> Member | None:
            found = []
            for member in self.members:
                hello = member.hello()
                if hello.get("isWritablePrimary"):
                    found.append((hello["electionId"], member))
            return max(found, key=lambda one: one[0])[1] if found else None

        return until(elected, deadline)

    def secondaries(self) -> list[Member]:
        """The members that are secondaries now."""
        return [member for member in self.members if member.hello().get("secondary")]

    def settle(self, deadline: float = 60.0) -> None:
        """Wait until all members run, and those with data have what the primary has written.

        The primary begins its term with a write, so that they then replicate from it.
        """

        def settled() -> bool:
            states = [member.hello() for member in self.members]
            data = [state for state in states if not state.get("arbiterOnly")]
            places = [state.get("isWritablePrimary") or state.get("secondary") for state in data]
            written = [state.get("lastWrite", {}).get("opTime") for state in data]
            return all(states) and all(places) and all(one == written[0] for one in written)

        until(settled, deadline)
        self.primary(deadline)

    def step_down(self) -> Member:
        """Have another member elected; return it. The old primary can be elected again later."""
        old = self.primary()
        old.ask("replSetStepDown", 5, secondaryCatchUpPeriodSecs=4)
        return until(lambda: one if (one := self.primary()) is not old else None)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            for member in self.members:
                member.port = free_port()  # not one that a member before it has taken
                started.enter_context(member)
            configured = [
                {"_id": number, "host": member.host, "arbiterOnly": role == ARBITER}
                for number, (member, role) in enumerate(zip(self.members, self.roles, strict=True))
            ]
            configuration = {"_id": NAME, "members": configured, "settings": self.settings}
            self.members[0].ask("replSetInitiate", configuration, timeout=30)
            self.settle()
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()
