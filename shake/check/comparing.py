"""Compares one table, both ways, in phases; each can go on where an earlier process has ended."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from math import inf

import bson

from shake.check import messages
from shake.check.documents import DECODED
from shake.check.findings import Difference
from shake.check.fingerprint import BUCKETS
from shake.check.gate import Unfinished
from shake.check.part import CheckPart
from shake.check.plan import CheckPlan
from shake.check.processes import CheckProcesses, Crew, OneProcess
from shake.check.progress import CheckProgress
from shake.check.recording import RecordedCheck
from shake.check.state import CheckPhase, CheckSnapshot, CheckState
from shake.check.stored import KeyRange
from shake.checkpoint.contract import StoreUnavailable
from shake.checkpoint.retrying import retried
from shake.errors import RunError
from shake.status.figures import count

log = logging.getLogger("shake.check")

#: Parts that the keys of a collection are read in: so many for each process, and none smaller.
_RANGES_A_PROCESS = 32
_SMALLEST_RANGE = 50_000
#: Seconds between two saves.
_SAVE_EVERY = 30.0
#: Keys that are worth a warning where they are asked for one by one.
_MANY = 1_000_000
_ASKED = (
    "table %s: the source is asked for about %s keys of the target, 100 at a time: keys that came "
    "or went during the check make it so"
)
#: Keys that are held in memory when the source has to be scanned for them.
_HELD = 100_000
#: Seconds that the processes have to say what they have done: at the end of a step, or at a signal.
_ANSWER_SECONDS, _SIGNAL_SECONDS = 600.0, 5.0
#: The number of this process in snapshots, where it is not one of the crew.
_SELF = -1


class Comparison:
    """Every item, then every document.

    ``state`` is what an earlier process has saved, or the begin: all processes add to it. It is
    saved in ``record``, if there is one.
    """

    def __init__(
        self,
        plan: CheckPlan,
        part: CheckPart,
        children: CheckProcesses,
        progress: CheckProgress,
        state: CheckState,
        record: RecordedCheck | None,
    ) -> None:
        self._plan = plan
        self._part = part
        self._progress = progress
        self._state = self._base = state
        self._record = record
        self._durable: dict[int, int] = {}  # of each process: how many differences
        self._saved = inf  # when the last save was, or before which none is made
        self._saving = False
        self._alone = plan.processes == 1
        self._crew: Crew = OneProcess(part, self._tick)
        if not self._alone:
            everyone = part.begun._replace(processes=plan.processes)
            self._crew = children.open(everyone, self._tick)

    def run(self) -> None:
        """Compare. What is done by then is saved when a signal comes."""
        try:
            self._begin()
            if self._state.phase is CheckPhase.ITEMS:
                self._compare_items()
            if self._state.phase is CheckPhase.KEYS:
                self._read_keys()
            self._name_extras()
        except KeyboardInterrupt:
            with contextlib.suppress(RunError):
                self._save(_SIGNAL_SECONDS)
                if self._record:
                    done = count(self._state.done.compared)
                    log.warning("stopped after %s items: the same command goes on from there", done)
            self._part.stop.set()
            raise

    def finish(self) -> None:
        """Save what was found since, before the check of the table counts as completed."""
        retried(self._save)(_ANSWER_SECONDS)

    def _tick(self) -> None:
        if time.monotonic() - self._saved >= _SAVE_EVERY and not self._saving:
            # The error behind an Unfinished comes by another way.
            with contextlib.suppress(Unfinished):
                self._step_done()

    def _step_done(self) -> None:
        """Save how far the check is, if the store takes it now."""
        try:
            self._save(_ANSWER_SECONDS)
        except StoreUnavailable as error:
            log.warning("how far the check is cannot be saved: %s; retrying", error)

    def _save(self, within: float) -> None:
        """Save what all processes have done; their snapshots are held one at a time."""
        if self._saved == inf:
            return
        self._saving = True  # the loop calls tick, too
        try:
            # The processes hold what the base left in doubt.
            state = self._base._replace(item_doubts=(), extra_doubts=())
            new: list[Difference] = []
            durable = dict(self._durable)
            for number, one in self._snapshots(within):
                state = state.plus(one)
                new += one.differences[max(0, durable.get(number, 0) - one.first) :]
                durable[number] = one.first + len(one.differences)
            self._state = state
            if self._record:
                self._record.save(state, new)
            self._durable, self._saved = durable, time.monotonic()
        finally:
            self._saving = False

    def _snapshots(self, within: float) -> Iterator[tuple[int, CheckSnapshot]]:
        yield from self._crew.snapshots(self._durable, within)
        if not self._alone:
            yield _SELF, self._part.snapshot(self._durable.get(_SELF, 0))

    def _enter(self, phase: CheckPhase, ranges: Iterable[KeyRange]) -> None:
        """The next phase begins; it is saved with the next state."""
        self._base = self._base.enter(phase, ranges)
        self._state = self._state.enter(phase, ranges)

    def _begin(self) -> None:
        state = self._state
        if state.item_doubts or state.extra_doubts:
            doubt = messages.Doubt(state.item_doubts, state.extra_doubts)
            self._crew.run_all([doubt])
        self._saved = time.monotonic()

    def _compare_items(self) -> None:
        segments = self._state.segments
        positions = {one.segment: one for one in self._state.positions}
        pieces = [
            messages.Compare(n, segments, positions[n].start if n in positions else None)
            for n in range(segments)
            if n not in positions or not positions[n].over
        ]
        self._crew.run_all(pieces)
        self._crew.all(messages.ResolveDoubts())
        self._step_done()
        parts = _parts(self._plan, self._state.found.keys)
        self._enter(CheckPhase.KEYS, self._part.sides.stored.ranges(parts))

    def _read_keys(self) -> None:
        self._progress.reading_keys(self._state.found.keys)
        self._run_parts(messages.ReadKeys)
        self._step_done()
        self._enter(CheckPhase.EXTRAS, self._state.ranges)

    def _run_parts(self, work: type[messages.ReadKeys] | type[messages.NameExtras]) -> None:
        """Have the parts of the target done that are not yet."""
        over = set(self._state.over)
        parts = enumerate(self._state.ranges)
        self._crew.run_all([work(number, part) for number, part in parts if number not in over])

    def _name_extras(self) -> None:
        state = self._state
        unequal = state.found.unequal(state.theirs)
        keys = state.found.keys + state.theirs.keys
        if self._part.sides.stored.keys.lossy:
            at_once = max(1, _HELD * BUCKETS // max(1, keys))
            rest = sorted(unequal)
            for first in range(0, len(rest), at_once):
                self._count_again(messages.LookFor(tuple(rest[first : first + at_once])))
        elif unequal:
            asked = state.theirs.keys * len(unequal) // BUCKETS
            if asked > _MANY:
                log.warning(_ASKED, self._plan.table.name, count(asked))
            self._progress.reading_keys(state.theirs.keys)
            self._crew.all(messages.LookFor(tuple(unequal)))
            self._run_parts(messages.NameExtras)
            self._crew.all(messages.ResolveDoubts())

    def _count_again(self, buckets: messages.LookFor) -> None:
        """Compare the keys of some buckets by reading the whole source once more.

        For keys that have become doubles, from which no way leads back to the item.
        """
        crew, segments = self._crew, self._state.segments
        crew.all(buckets)
        held = crew.each([messages.ListKeys(one) for one in self._state.ranges], messages.Keys)
        theirs = [bson.decode(key, DECODED) for keys in held for key in keys.documents]
        ours: Counter[bytes] = Counter()
        counted = [messages.CountItems(n, segments) for n in range(segments)]
        for some in crew.each(counted, messages.Counts):
            ours.update(some.digests)
        self._part.extras.compare(ours, theirs)


def _parts(plan: CheckPlan, keys: int) -> int:
    """How many parts so many keys of a collection are read in."""
    most = max(plan.processes, keys // _SMALLEST_RANGE)
    return 1 if plan.processes == 1 else min(plan.processes * _RANGES_A_PROCESS, most)
