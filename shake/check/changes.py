"""Reads which keys of a table have changed since some positions of its stream.

Records are read in any order: only their keys count, and what a key holds is asked for later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple, TypeVar

from shake.check.belonging import CheckRefused
from shake.check.meaning import Item
from shake.check.source import loaded
from shake.clock import boot_clock
from shake.errors import RefusedError, SourceError, Stopped
from shake.schema import RETENTION, TRIM_TOLERANCE
from shake.source.agreement import agreed
from shake.source.answer import EXPIRED_ITERATOR, NOT_FOUND, TRIMMED
from shake.source.clock import DISORDER
from shake.source.connection import Buffer
from shake.source.contract import Stream
from shake.source.dynamodb import DynamoSource
from shake.stream.listing import Listed, ancestors, below
from shake.stream.shard import Shard
from shake.stream.suspicion import START, Suspicions
from shake.stream.tip import Silence
from shake.worker.shard_reader import END_AGAIN, FIRST_PAUSE

T = TypeVar("T")

#: Shards that are read at the same time.
_THREADS = 16
#: Records in one answer, the most that there can be.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
_LIMIT = 1000
#: Seconds for which what follows an ended shard can be missing from the listing, and between looks.
_LISTED_WITHIN, _LOOK_EVERY = 60.0, 1.0


class FullCheckNeeded(CheckRefused):
    """What has changed since the last check is not known any more."""

    def __init__(self, table: str, reason: str) -> None:
        super().__init__(f"table {table}: --since is not possible: {reason}; run a full check")


class _Goal(NamedTuple):
    """Until where a shard is read: to a change made after ``moment``, a time on the source's clock.

    ``started`` is when this check began, by the boot clock. ``last``: one such change was read, and
    the next one ends the reading, see RecentChanges._read.
    """

    moment: float
    started: float
    last: bool = False


@dataclass(frozen=True, slots=True)
class RecentChanges:
    """The changes of a table since ``began``, a time on the source's clock.

    ``shards`` are where the stream is read from: what is applied of them was made before.
    ``margin`` is ``incr.margin``. ``age`` is how many seconds ago ``began`` was, by this machine's
    clock: the source's can have been set back since.
    """

    source: DynamoSource
    table: str
    arn: str
    shards: tuple[Shard, ...]
    began: float
    margin: float
    age: float = 0.0

    def each(self, take: Callable[[list[Item]], None]) -> None:
        """Give ``take`` the keys of all changes made until now, some at a time, from any thread.

        Raises FullCheckNeeded where some of the changes cannot be read any more.
        """
        goal = _Goal(self.source.clock.latest(), boot_clock())
        self._verify()
        if max(goal.moment - self.began, self.age) > RETENTION - TRIM_TOLERANCE:
            raise self._refused("a stream keeps changes for 24 hours")
        starts = {shard.id: shard.start for shard in self.shards}
        done: set[str] = set()
        passed: set[str] = set()
        goals: dict[str, _Goal] = {}  # of what follows shards that have ended
        while fresh := self._unread(starts, done, passed):
            work = [(shard, start, goals.get(shard, goal)) for shard, start in fresh.items()]
            with ThreadPool(min(_THREADS, len(work))) as threads:
                reads = threads.imap_unordered(lambda one: self._read(*one, take), work)
                ended = {shard: left for shard, left in reads if left}
            done |= fresh.keys()
            passed |= fresh.keys() - ended.keys()
            children = self._children(ended.keys())
            starts |= {one.id: one.start for one in children}
            goals |= {one.id: ended[one.parent] for one in children}
        self._verify()

    def _refused(self, reason: str) -> FullCheckNeeded:
        return FullCheckNeeded(self.table, reason)

    def _verify(self) -> None:
        """Raise FullCheckNeeded where the stream is not the one that it was."""

        def problem(stream: Stream | None) -> str:
            same = stream is not None and stream.arn == self.arn and stream.enabled
            return "" if same else f"its stream {self.arn} was replaced or disabled"

        self._agreed(lambda: self.source.look_at_stream(self.table), problem)

    def _agreed(self, ask: Callable[[], T], problem: Callable[[T], str]) -> T:
        """What the source answers. Raises FullCheckNeeded where answers agree on a problem."""
        found = agreed(self.source, ask, problem, START)
        if text := problem(found):
            raise self._refused(text)
        return found

    def _unread(self, starts: dict[str, str], done: set[str], passed: set[str]) -> dict[str, str]:
        """Shards that are not read yet, and where each begins.

        All that is listed counts, but for what came before the positions, and what comes after the
        shards that are read beyond the moment: a stream that splits all the time has always more of
        that. A parent that is gone is no hint of what its children hold.
        """
        # A parent had ended before the others began, so what it held is in the last check.
        parents = {shard.parent for shard in self.shards}
        listed = {one.id: one for one in self._listing(starts.keys() - done - parents)}
        starts = {shard: start for shard, start in starts.items() if shard in listed}
        above = ancestors((listed[one].parent for one in starts), listed, starts)
        others = listed.keys() - above - below(passed, listed)
        found = {one: listed[one].start for one in others} | starts
        return {shard: start for shard, start in found.items() if shard not in done}

    def _listing(self, needed: Set[str] = frozenset()) -> list[Listed]:
        """The shards. Raises FullCheckNeeded where one of those that are ``needed`` is gone."""

        def problem(listing: list[Listed] | None) -> str:
            if listing is None:
                return f"its stream {self.arn} is gone"
            missing = needed - {one.id for one in listing}
            return f"shard {min(missing)} of its stream is gone" if missing else ""

        return self._agreed(lambda: self.source.look_at_shards(self.arn), problem) or []

    def _children(self, ended: Set[str]) -> list[Listed]:
        """What follows shards that have ended; it can be listed late."""
        end = time.monotonic() + _LISTED_WITHIN
        while True:
            found = [one for one in self._listing() if one.parent in ended]
            missing = ended - {one.parent for one in found}
            if not missing:
                return found
            if time.monotonic() >= end:
                raise RefusedError(
                    f"table {self.table}: shard {min(missing)} has ended, and what follows it is "
                    "not listed: run --since again later"
                )
            self.source.wait(_LOOK_EVERY)
            if self.source.stop.is_set():
                raise Stopped

    def _read(
        self, shard: str, start: str, goal: _Goal, take: Callable[[list[Item]], None]
    ) -> tuple[str, _Goal | None]:
        """Read a shard until all that was made before this check is read, or to its end.

        Return the goal for the shards that follow, None where all is read. One later
        change does not show that all is read: it can be from before the source's clock was set
        back, where that was long ago. So shards are read on, to a change made after the first one
        was read.
        """
        try:
            for keys, created, over in self._pages(shard, start, goal.started):
                if keys:
                    take(keys)
                if self._is_later(created, goal.moment):
                    if goal.last:
                        return shard, None
                    goal = goal._replace(moment=self.source.clock.latest(), last=True)
                if over:
                    return shard, goal
        except SourceError as error:
            if error.code not in (NOT_FOUND, TRIMMED):
                raise
            gone = f"shard {shard} of its stream is gone"
            trimmed = f"changes of its shard {shard} are trimmed"
            raise self._refused(trimmed if error.code == TRIMMED else gone) from error
        return shard, None

    def _is_later(self, created: float, moment: float) -> bool:
        """Whether a change shows that all that was made before a moment is read.

        One of a later time than now does not: it is from before the source's clock was set back.
        """
        return moment < created - DISORDER and created <= self.source.clock.latest()

    def _pages(
        self, shard: str, start: str, started: float
    ) -> Iterator[tuple[list[Item], float, bool]]:
        """Keys, the creation time of the last change, and whether the shard is over.

        Ends when an answer without records shows that all changes made before ``started``, by the
        boot clock, are read. The source's clock does not count here: it can be set meanwhile.
        """
        buffer, silence, suspicions = Buffer(), Silence(), Suspicions()
        iterator = last = ""  # the iterator that has ended the shard
        sequence = next((one.sequence for one in self.shards if one.id == shard), "")
        while not self.source.stop.is_set():
            asked = boot_clock()
            try:
                iterator = iterator or self._iterator(shard, start, sequence, buffer)
                body = self.source.records(iterator, _LIMIT, buffer)
            except SourceError as error:
                if error.code not in (EXPIRED_ITERATOR, NOT_FOUND, TRIMMED):
                    raise
                if error.code != EXPIRED_ITERATOR:  # one such answer can be stale
                    if suspicions.add(shard, error.code, asked, START):
                        raise
                    self.source.wait(START.every)
                iterator, silence = "", Silence()
                continue
            suspicions.clear(shard)
            answer = loaded(body)
            records = answer["Records"]
            if records:
                sequence = records[-1]["dynamodb"]["SequenceNumber"]
            created = max((_created(one) for one in records), default=0.0)
            following = answer.get("NextShardIterator") or ""
            over = not (following or records) and iterator == last
            yield [one["dynamodb"]["Keys"] for one in records], created, over
            if not following:
                last, iterator, silence = iterator, "" if records else iterator, Silence()
                self.source.wait(END_AGAIN)
                continue
            iterator = following
            tip = silence.tip(len(records), asked)
            if tip is not None and tip - self.margin > started:
                return
            if not records and not silence.undecided:
                self.source.wait(FIRST_PAUSE)
        raise Stopped

    def _iterator(self, shard: str, start: str, sequence: str, buffer: Buffer) -> str:
        """An iterator at this position, or where only old changes were trimmed behind it."""
        try:
            return self.source.iterator(self.arn, shard, start, sequence, buffer)
        except SourceError as error:
            if error.code != TRIMMED:
                raise
            oldest = self.source.iterator(self.arn, shard, "", "", buffer)
            records = loaded(self.source.records(oldest, 1, buffer))["Records"]
            if not records or _created(records[0]) > self.began:
                raise
        return self.source.iterator(self.arn, shard, "", "", buffer)


def _created(record: dict[str, Any]) -> float:
    created: float = record["dynamodb"]["ApproximateCreationDateTime"]
    return created
