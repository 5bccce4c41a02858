"""When a write counts as acknowledged: when no fail-over and no crash can undo it."""

from __future__ import annotations

from typing import Any

from pymongo.write_concern import WriteConcern

#: Milliseconds after which a write that too few members have confirmed counts as failed, and is
#: tried again: so the log says what the task waits for.
PATIENCE = 30_000


def durable(given: WriteConcern) -> WriteConcern:
    """``w: "majority", j: true``, but for what the connection string itself names.

    The server's own default is not enough: up to MongoDB 4.4, and later in sets with an arbiter,
    it is ``w: 1``, and a fail-over rolls such writes back.
    Source: https://www.mongodb.com/docs/manual/reference/write-concern/#implicit-default-write-concern
    """
    named = given.document
    if not given.acknowledged:  # which is refused later, with the way out
        return given
    return WriteConcern(
        w=named.get("w", "majority"),
        j=named.get("j", True),
        wtimeout=named.get("wtimeout", PATIENCE),
    )


def weakness(concern: WriteConcern, hello: dict[str, Any]) -> str | None:
    """What can undo writes that this concern acknowledged, in one line; None where nothing can.

    ``hello`` is the server's answer to the command of that name.
    """
    named = concern.document
    # What a mode of the user's own means, and how many members each shard has, is not known.
    known = isinstance(named["w"], int) and hello.get("msg") != "isdbgrid"
    members = sum(len(hello.get(kind, ())) for kind in ("hosts", "passives", "arbiters")) or 1
    if named["w"] != "majority" and not (known and named["w"] > members // 2):
        return (
            f"WEAK WRITE CONCERN: target.address names w={named['w']}: a fail-over can undo "
            "writes that were acknowledged, and shake will not notice; remove w from it, or use "
            "w=majority"
        )
    if not named.get("j"):
        return (
            "WEAK WRITE CONCERN: target.address names journal=false: a crash of the server can "
            "undo writes that were acknowledged, and shake will not notice; remove it"
        )
    return None
