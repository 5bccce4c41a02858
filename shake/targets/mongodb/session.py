"""Numbers the commands of one shard, so that the server refuses one that comes too late.

A command whose connection broke, or whose sender was killed, may still be on its way while it is
sent again, and while newer changes follow. So all commands of a shard name one session, the same
in every process and run, and carry numbers that only rise: a replica set or a sharded cluster
refuses, in a session, what has a lower number than the latest (TransactionTooOld). Each command
that was not acknowledged is followed by one with the same statements, or by one of the next run
with the same keys: once that is acknowledged, no older one can alter any of its keys any more, on
whichever shard of a cluster they are. So nothing more is to be done when a shard ends either.
A new copy of a table has another collection, with other sessions. A command for the old collection
names its UUID, so the server refuses it. Each process of ``shake-check --repair`` has a session,
too (checkpoint.stream_records.RepairRecord). A session that was not used for 30 minutes
expires. So shake refreshes the sessions that are still needed (MongoWriter.keep_fences). With
authentication a session also belongs to the user, so another user's numbers do not count: see
shake.checkpoint.identity.Identity.users.
Source: https://www.mongodb.com/docs/manual/reference/server-sessions/

Drivers call these retryable writes. But here each retry has a new number, so what the server has
of the older number does not matter.
Source: https://github.com/mongodb/specifications/blob/master/source/retryable-writes/retryable-writes.md

The source for the refusal is OlderRetryableWriteFailsOnSessionWithNewerRetryableWrite in
https://github.com/mongodb/mongo/blob/master/src/mongo/db/transaction/transaction_participant_retryable_writes_test.cpp
"""

from __future__ import annotations

import itertools
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bson.binary import UUID_SUBTYPE, Binary
from bson.int64 import Int64
from pymongo.client_options import ClientOptions

from shake.errors import RunError
from shake.targets.contract import LAST_PROCESS

#: What a server answers to a number that is lower than one it has had.
#: Source: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
TOO_OLD = 225

#: A number is the run (20 bits), the process within the run (10) and the command (33). So many
#: runs of a copy there can be, and so many writer processes in one run.
RUNS, PROCESSES = 1 << 20, LAST_PROCESS + 1
_COMMAND_BITS = 33

_NAMESPACE = uuid.UUID("3c0c2b1c-6a0d-4a52-9d0e-1e5a1d7f7b46")


def numbers_from(run: int, process: int) -> Iterator[int]:
    """The numbers of one process: above those of every earlier process and run.

    They come from what the checkpoint counts, never from a clock, which can be wrong. A user can
    remove a checkpoint, or restore an older one: then the same run is counted again. The server
    takes a command with a number that it has seen for a retry, and does not carry it out. So each
    process begins at a random command, and its numbers are in any case others.
    """
    if run >= RUNS or process >= PROCESSES:
        raise RunError(
            f"run {run}, writer process {process}: no numbers are left for its commands; start "
            "again"
        )
    first = secrets.randbelow(1 << (_COMMAND_BITS - 1))
    return itertools.count(((run * PROCESSES + process) << _COMMAND_BITS) + first)


def unfenced(options: ClientOptions, hello: Mapping[str, Any]) -> str | None:
    """Why changes are not numbered, so that late ones are not refused; None where they are.

    ``hello`` is the server's answer to the command of that name. See RawCommands.
    """
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        cause = "the target is a standalone server: make it a replica set of one member"
    elif options.timeout is not None:
        cause = "target.address names timeoutMS: remove it"
    elif not options.retry_writes:
        cause = "target.address names retryWrites=false: remove it"
    else:
        return None
    return (
        "NO FENCE: a change that was held up on its way to the target cannot be refused, and can "
        f"bring back old content; {cause}"
    )


@dataclass(frozen=True, slots=True)
class Session:
    """The session of what is applied one after the other: commands of one shard.

    ``numbers`` are the process's, for all of its sessions.
    """

    id: Binary
    numbers: Iterator[int]

    @classmethod
    def of(
        cls, task: str, namespace: str, collection_uuid: str, shard: str, numbers: Iterator[int]
    ) -> Session:
        """The session of a shard, by its name and the collection's."""
        named = uuid.uuid5(_NAMESPACE, "\0".join((task, namespace, collection_uuid, shard)))
        return cls(Binary(named.bytes, UUID_SUBTYPE), numbers)

    @property
    def lsid(self) -> dict[str, Any]:
        """How a command names it."""
        return {"id": self.id}

    def stamp(self) -> dict[str, Any]:
        """The fields of the next command."""
        return {"lsid": self.lsid, "txnNumber": Int64(next(self.numbers))}
