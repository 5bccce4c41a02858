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
from shake.stream import suspicion
from shake.stream.children import SIBLING_AFTER
from shake.stream.shard import Shard
from shake.stream.suspicion import Question, ShardAnswer

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

    def each_second(self) -> None:
        """Each second: report what is uncertain."""
        for following in self._followed_tables.values():
            for one in following.shards.suspicions:
                self._task.uncertain(f"table {following.name}: {one}")

    def from_reader(self, following: FollowedTable, shard: Shard, gap: ShardGap) -> None:
        """A shard's reader, which has ended, was refused what follows the position."""
        if gap.kind == "damaged":
            self._task.fail(GapError(following.name, f"shard {shard.id}: {gap.reason}"))
        elif gap.kind == "gone":
            self._suspect(following, shard, ShardAnswer.GONE)
        elif spared(shard, self._source_clock.latest()):
            text = f"table {following.name}: shard {shard.id}: {gap.reason}; read from its oldest"
            if shard.oldest:  # as it was read
                self._task.retrying(text)
            else:
                log.info("%s", text)
            following.shards.rewind(shard)
        else:
            self._suspect(following, shard, ShardAnswer.TRIMMED)

    def trimmed(self, following: FollowedTable, question: Question) -> None:
        """See Views."""
        for shard in following.possibly_trimmed(self._source_clock.latest()):
            if Question(shard.id, *shard.reached) == question:  # it is still so
                self._suspect(following, shard, ShardAnswer.TRIMMED)

    def _suspect(self, following: FollowedTable, shard: Shard, answer: ShardAnswer) -> None:
        log.info("table %s: shard %s is %s; asking again", following.name, shard.id, answer.value)
        try:
            following.shards.suspect(shard, answer, self._loop.clock())
        except GapError as error:
            self._task.fail(error)
        self.watcher.look(following)

    def doubted(self, following: FollowedTable, text: str) -> None:
        """See Views."""
        following.disputed = True
        self._task.uncertain(text)

    def seen(self, following: FollowedTable, view: View) -> None:
        """See Views."""
        shards = following.shards
        if view.whole or view.loss:
            following.disputed = False
        try:
            shards.suspect_stream(view.loss, view.asked)
            new = shards.learn(view.listing, whole=view.whole, now=view.asked, answers=view.answers)
        except GapError as error:
            self._task.fail(error)
            return
        following.unsaved.add(*new)
        if view.whole:
            following.listed = True
            self._checkpointer.delete_shards(following.record, following.take_removed())
        if view.whole or view.loss or shards.offspring.siblings_may_be_missing:
            self._view_soon(following)
        self._task.shards_changed(following.number)

    def _view_soon(self, following: FollowedTable) -> None:
        """What is uncertain is asked again."""
        shards = following.shards
        if shards.offspring.may_be_missing or shards.beginning or not len(shards):
            pause = LIST_SOON
        elif shards.suspicions:
            pause = suspicion.LOSS.every
        elif shards.offspring.siblings_may_be_missing:
            pause = SIBLING_AFTER
        else:
            return
        at = self._loop.clock() + pause
        if at < self._next.get(following.number, inf):
            self._next[following.number] = at
            self._loop.later(pause, partial(self._view_again, following, at))

    def _view_again(self, following: FollowedTable, at: float) -> None:
        if self._next.get(following.number) == at:
            del self._next[following.number]
            self.watcher.look(following)

    def _view_all(self) -> None:
        for following in self._followed_tables.values():
            self.watcher.look(following)
            for shard in following.possibly_trimmed(self._source_clock.latest()):
                self.watcher.probe(following, shard)
