"""What is known of a table's changes: how much of its journal is left, whatever was restarted."""

from __future__ import annotations

from shake.checkpoint.records import TableRecord
from shake.checkpoint.stream_records import StreamRecord, shard_document, shard_of
from shake.farm.ledger import End, Ledger
from shake.farm.worker_messages import Batch, Journaled
from shake.follow.table import ApplyingLease, FollowedTable, spared
from shake.plan.plan import Action, TablePlan
from shake.schema import RETENTION, Attribute, Keys, Table
from shake.stream.beginning import all_shards
from shake.stream.listing import Listed
from shake.stream.shard import Shard, ShardState
from shake.stream.shard_children import SIBLING_AFTER
from tests.support.task import Slots, TableJob

NOW = 1_000_000.0
#: The source's clock has come so far.
LATER = NOW + 1e6
RECORD = StreamRecord("t", "arn", began=NOW - 60)


def followed(shards: list[Shard]) -> FollowedTable:
    table = Table("t", Keys(Attribute("pk", "S")))
    plan = TablePlan(table, Action.FOLLOW, TableRecord("t", "a.t", 0, 0), (), ())
    return FollowedTable(0, plan, RECORD, shards, NOW)


class Reader:
    """Reads shards of a table, under leases of a separate ledger."""

    def __init__(self, one: FollowedTable) -> None:
        self.one = one
        self.ledger = Ledger(Slots())
        self.job = TableJob(lambda: NOW)

    def lease(self, shard: str) -> ApplyingLease:
        lease = self.ledger.grant(self.job, self.one, self.one.shards[shard], 0, NOW)
        self.one.lease(lease)
        return lease

    def apply(self, lease: ApplyingLease, records: int, sequence: str, created: float) -> None:
        """A batch is read, and applied."""
        batch = Batch(lease.number, -1, [(0, 0)] * 3, True, records, sequence, created)
        self.ledger.publish(lease, -1, self.one.note_batch(batch, LATER, NOW))
        self.ledger.acknowledge(self.ledger.send(lease).number)

    def read(self, shard: str, sequence: str, created: float) -> ApplyingLease:
        """A shard is read up to this record."""
        lease = self.lease(shard)
        self.apply(lease, 1, sequence, created)
        return lease

    def end(self, lease: ApplyingLease) -> None:
        """It is read to its end."""
        self.ledger.end(lease, End.FINISHED)


def restarted(one: FollowedTable) -> FollowedTable:
    """As the next run finds it in the checkpoint."""
    saved = [shard_document(shard) | {"Run": 0} for shard in one.shards]
    return followed([shard_of("t", document) for document in saved])


def test_the_journal_of_a_shard_that_is_over_takes_no_room_now_nor_after_a_restart() -> None:
    one = followed([Shard(name, "", "1", "", NOW, ShardState.READY) for name in ("s1", "s2")])
    for shard in list(one.shards):
        one.shards.begin_journaling(shard)
        one.add_to_journal(shard, Journaled(0, "7", 5, 100, NOW + 1), LATER, NOW)
        one.end_journaling(shard, over=True)
    assert (one.journaled, one.journal_bytes) == (10, 200)

    reader = Reader(one)
    lease = reader.lease("s1")
    reader.apply(lease, 5, "7", NOW)
    assert (one.journaled, one.journal_bytes) == (5, 200)
    reader.end(lease)
    assert one.shards["s1"].state is ShardState.APPLIED
    assert one.take_finished() == ["s1"]

    for found in (one, restarted(one)):
        assert (found.journaled, found.journal_bytes) == (5, 100)


#: The head of the first shard may be gone.
OLD = [Listed("s1", "", "1", closed=True), Listed("s2", "s1", "8", closed=False)]


def test_a_shard_is_saved_behind_its_parent_in_whatever_order_they_are_listed() -> None:
    """A save that ends midway leaves no shard without its parent, whose loss is a gap then."""
    one = followed(all_shards([Listed("a", "", "100", True)], NOW))
    family = [("d", "c"), ("c", "b"), ("b", "a"), ("a", "")]
    listing = [Listed(shard, parent, "100", shard != "d") for shard, parent in family]
    one.unsaved.add(*one.shards.learn(listing, whole=True, now=NOW))
    taken = one.take_unsaved()
    assert taken is not None
    assert [document["ShardId"] for document in taken] == ["b", "c", "d"]


def test_what_the_stream_holds_at_the_beginning_is_behind_until_it_is_applied() -> None:
    one = followed(all_shards(OLD, NOW))
    one.listed = True
    for moment in (NOW, NOW + SIBLING_AFTER):
        one.shards.learn(OLD, whole=True, now=moment)
    assert (one.lag(NOW), one.unread(NOW), one.reaches(NOW)) == (RETENTION, RETENTION, False)
    reader = Reader(one)
    first = reader.read("s1", "5", NOW - 7200)
    assert (one.lag(NOW), one.unread(NOW)) == (7200, 7200)
    reader.end(first)
    second = reader.read("s2", "9", NOW - 3600)
    assert (one.lag(NOW), one.unread(NOW)) == (3600, 3600)
    one.tip(second, NOW + 1, LATER)
    assert (one.lag(NOW + 1), one.unread(NOW + 1), one.reaches(NOW)) == (0, 0, True)


def test_what_is_trimmed_before_a_first_look_is_no_loss_and_later_it_is() -> None:
    one = restarted(followed(all_shards(OLD, NOW)))
    s1, s2 = one.shards
    assert spared(s1, NOW + 60)
    assert not spared(s1, NOW + 2 * 3600)  # a caller has waited for what was there
    reader = Reader(one)
    reader.end(reader.read("s1", "5", NOW - RETENTION + 60))
    for found in (one, restarted(one)):
        s1, s2 = found.shards
        assert not spared(s1, NOW)
        assert not spared(s2, NOW)


def test_where_nothing_was_left_of_a_shard_its_child_may_have_lost_its_head_too() -> None:
    one = followed(all_shards(OLD, NOW))
    reader = Reader(one)
    reader.end(reader.lease("s1"))
    assert spared(restarted(one).shards["s2"], NOW + 60)


def test_a_stream_that_lists_no_shard_yet_is_as_far_behind_as_it_is_followed() -> None:
    one = followed([])
    one.listed = True
    assert (one.lag(NOW), one.unread(NOW), one.reaches(NOW)) == (60, 60, False)
    one.shards.learn([Listed("s1", "", "1", closed=False)], whole=True, now=NOW)
    assert (one.lag(NOW), one.unread(NOW), one.reaches(NOW)) == (60, 60, False)
    assert spared(one.shards["s1"], NOW)
    one.tip(Reader(one).lease("s1"), NOW, LATER)
    assert (one.lag(NOW), one.unread(NOW), one.reaches(NOW)) == (0, 0, True)


def test_an_unread_shard_is_looked_at_once_the_stream_may_have_trimmed_it() -> None:
    """The furthest behind come first. Every reader of a shard finds its oldest records trimmed."""
    late = NOW + RETENTION - 1800
    names = ("s1", "s2", "s3", "s4", "s5")
    one = followed(
        [Shard(n, "", "1", "7" * (n == "s2"), NOW - int(n[1]), ShardState.READY) for n in names]
    )
    Reader(one).lease("s3")
    one.shards.begin_journaling(one.shards["s4"])
    one.shards.begin_journaling(one.shards["s5"])
    one.add_to_journal(one.shards["s5"], Journaled(0, "9", 1, 1, NOW - 3), LATER, NOW)
    one.shards.end_journaling(one.shards["s5"], over=False)
    assert one.possibly_trimmed(NOW) == []
    assert [(shard.id, shard.reached) for shard in one.possibly_trimmed(late)] == [
        ("s5", ("1", "9")),
        ("s2", ("1", "7")),
        ("s1", ("1", "")),
    ]


def test_servers_whose_clocks_differ_a_little_are_no_clock_that_was_set_back() -> None:
    """What the last run saved is of the time of one server, and a run begins by that of another."""
    for behind, found in ((0.9, False), (1.1, True)):
        one = followed([])
        one.resume(RECORD.began - behind, RECORD.began, 3.0)
        assert (one.record.set_back > 0) == found


def test_a_tip_from_before_the_clock_was_set_back_shows_nothing() -> None:
    """A worker was frozen after it had found the tip. What came since then is not read.

    So it is whatever the clock shows when it reports that. The tip of another lease counts.
    """
    one = followed(all_shards([Listed("a", "", "1", False)], RECORD.began))
    one.listed = one.active = True
    reader = Reader(one)
    lease = reader.lease("a")
    one.set_back(NOW - 10, NOW, NOW + 300)
    for earliest in (NOW + 99, NOW + 301):
        one.tip(lease, NOW + 290, earliest)
        assert not one.reaches(NOW)
    reader.ledger.end(lease)
    lease = reader.lease("a")
    one.tip(lease, NOW + 290, NOW + 99)  # a node's clock is ahead
    assert one.reaches(NOW + 99)
    assert not one.reaches(NOW + 100)


def test_a_change_from_before_the_clock_was_set_back_is_not_still_arriving() -> None:
    """Its time is that of the old clock, which the new one reaches much later."""
    one = followed(all_shards([Listed("a", "", "1", False)], RECORD.began))
    one.listed = one.active = True
    one.set_back(NOW - 10, NOW, NOW + 300)
    Reader(one).read("a", "2", NOW + 290)
    assert one.newest <= NOW
