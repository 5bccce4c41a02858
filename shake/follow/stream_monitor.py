"""Keeps what is known of followed streams up to date, and decides when changes count as lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from math import inf

from shake.errors import GapError
from shake.farm.farm import Farm
from shake.farm.worker_messages import ShardGap
from shake.follow.table import FollowedTable, spared
from shake.follow.watcher import StreamWatcher, View
from shake.schema import Question
from shake.stream import suspicion
from shake.stream.shard import Shard
from shake.stream.shard_children import SIBLING_AFTER
from shake.stream.suspicion import ShardAnswer

log = logging.getLogger("shake.farm")

#: Seconds between two views of a stream. The shorter time holds while no shard is listed, or a
#: parent or child of one that is known is not.
LIST_EVERY, LIST_SOON = 30.0, 0.5


class StreamMonitor:
    """Has streams viewed by its ``watcher``, at once where something is uncertain.

    ``followed_tables`` are by number, as of all parts that follow changes.
    """

    def __init__(self, farm: Farm, followed_tables: Mapping[int, FollowedTable]) -> None:
        self._loop, self._task = farm.loop, farm.task
        self._checkpointer = farm.checkpointer
        self._source_clock = farm.source.clock
        self._followed_tables = followed_tables
        self.watcher = StreamWatcher(farm, self)
        self._next: dict[int, float] = {}  # by table: when it is viewed again, on the loop's clock

    def start(self) -> None:
        self.watcher.start()
        if self._followed_tables:
            self._view_all()
            self._loop.every(LIST_EVERY, self._view_all)

    def measure_time(self) -> None:
        """Ask the source once, for its time by the clock of this machine.

        Nodes have other clocks. So what one of them learns of the source's clock is asked again.
        """
        for followed in list(self._followed_tables.values())[:1]:
            self.watcher.look(followed)

    def each_second(self) -> None:
        """Each second: report what is uncertain."""
        for followed in self._followed_tables.values():
            for one in followed.shards.suspicions:
                self._task.uncertain(f"table {followed.name}: {one}")

    def from_reader(self, followed: FollowedTable, shard: Shard, gap: ShardGap) -> None:
        """A shard's reader, which has ended, was refused what follows the position."""
        if gap.kind == "damaged":
            self._task.fail(GapError(followed.name, f"shard {shard.id}: {gap.reason}"))
        elif gap.kind == "gone":
            self._suspect(followed, shard, ShardAnswer.GONE)
        elif spared(shard, self._source_clock.latest()):
            text = f"table {followed.name}: shard {shard.id}: {gap.reason}; read from its oldest"
            if shard.oldest:  # as it was read
                self._task.retrying(text)
            else:
                log.info("%s", text)
            followed.shards.rewind(shard)
        else:
            self._suspect(followed, shard, ShardAnswer.TRIMMED)

    def trimmed(self, followed: FollowedTable, question: Question) -> None:
        """See Views."""
        for shard in followed.possibly_trimmed(self._source_clock.latest()):
            if Question(shard.id, *shard.reached) == question:  # it is still so
                self._suspect(followed, shard, ShardAnswer.TRIMMED)

    def _suspect(self, followed: FollowedTable, shard: Shard, answer: ShardAnswer) -> None:
        log.info("table %s: shard %s is %s; asking again", followed.name, shard.id, answer.value)
        try:
            followed.shards.suspect(shard, answer, self._loop.clock())
        except GapError as error:
            self._task.fail(error)
        self.watcher.look(followed)

    def suspected(self, followed: FollowedTable, text: str) -> None:
        """See Views."""
        followed.disputed = True
        self._task.uncertain(text)

    def seen(self, followed: FollowedTable, view: View) -> None:
        """See Views."""
        shards = followed.shards
        try:
            if view.whole or view.loss:  # else the stream as a whole was not asked about
                followed.disputed = False
                shards.suspect_stream(view.loss, view.asked)
            new = shards.learn(view.listing, whole=view.whole, now=view.asked, answers=view.answers)
        except GapError as error:
            self._task.fail(error)
            return
        followed.unsaved.add(*new)
        if view.whole:
            followed.listed = True
            self._checkpointer.delete_shards(followed.record, followed.take_removed())
        if view.whole or view.loss or shards.offspring.siblings_may_be_missing:
            self._view_soon(followed)
        self._task.shards_changed(followed.number)

    def _view_soon(self, followed: FollowedTable) -> None:
        """What is uncertain is asked again."""
        shards = followed.shards
        if shards.offspring.may_be_missing or shards.beginning or not len(shards):
            pause = LIST_SOON
        elif shards.suspicions:
            pause = suspicion.LOSS.every
        elif shards.offspring.siblings_may_be_missing:
            pause = SIBLING_AFTER
        else:
            return
        at = self._loop.clock() + pause
        if at < self._next.get(followed.number, inf):
            self._next[followed.number] = at
            self._loop.later(pause, partial(self._view_again, followed, at))

    def _view_again(self, followed: FollowedTable, at: float) -> None:
        if self._next.get(followed.number) == at:
            del self._next[followed.number]
            self.watcher.look(followed)

    def _view_all(self) -> None:
        for followed in self._followed_tables.values():
            self.watcher.look(followed)
            for shard in followed.possibly_trimmed(self._source_clock.latest()):
                self.watcher.probe(followed, shard)
