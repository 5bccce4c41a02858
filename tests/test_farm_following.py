"""What is known of a table's changes: how much of its journal is left, whatever was restarted."""

from __future__ import annotations

from shake.checkpoint.records import StreamRecord, TableRecord, shard_document, shard_of
from shake.farm.following import Following
from shake.farm.messages import Batch
from shake.plan import Action, TablePlan
from shake.schema import Attribute, Keys, Table
from shake.stream.shards import Shard, State

NOW = 1_000_000.0
RECORD = StreamRecord("t", "arn")


def following(shards: list[Shard]) -> Following:
    table = Table("t", Keys(Attribute("pk", "S")))
    plan = TablePlan(table, Action.FOLLOW, TableRecord("t", "a.t", 0, 0), (), ())
    return Following(0, plan, RECORD, shards, NOW)


def restarted(one: Following) -> Following:
    """As the next run finds it in the checkpoint."""
    saved = [shard_document(shard) | {"Run": 0} for shard in one.shards]
    return following([shard_of("t", document) for document in saved])


def test_the_journal_of_a_shard_that_is_over_takes_no_room_now_nor_after_a_restart() -> None:
    one = following([Shard(name, "", "1", safe=NOW, state=State.READY) for name in ("s1", "s2")])
    for shard in list(one.shards):
        one.shards.keep(shard)
        one.kept(shard, "7", 5, 100, NOW + 1)
        one.end_keeping(shard, over=True)
    assert (one.journaled, one.journal_bytes) == (10, 200)

    one.lease(1, 0, one.shards["s1"], NOW)
    one.publish(0, Batch(1, -1, [(0, 0)] * 3, True, 5, "7", NOW))
    flying = one.next(1)
    assert flying is not None
    one.applied(flying, 0, NOW)
    assert (one.journaled, one.journal_bytes) == (5, 200)
    assert one.end_lease(1, over=True) == ["s1"]
    assert one.take_over() == ["s1"]

    for found in (one, restarted(one)):
        assert (found.journaled, found.journal_bytes) == (5, 100)
