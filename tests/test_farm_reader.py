"""The readers of one worker, by themselves: what ends them, what they retry, what they share."""

from __future__ import annotations

import itertools
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shake.clock import boot_clock
from shake.config import Config
from shake.farm import worker_messages as messages
from shake.process import arena
from shake.process.channel import ChildChannel, SupervisorChannel
from shake.process.messages import Diagnosis, Failed, Report
from shake.schema import Attribute, Keys
from shake.source import clock as source_clock
from shake.source.endpoint import Credentials, Endpoint
from shake.stream import tip as tips_module
from shake.stream.tip import COLD, TIP_AFTER, Silence
from shake.worker import process as worker
from shake.worker import shard_reader
from tests.support.faulty import error
from tests.support.streams import Clock, Simulator, Table
from tests.support.streams_faults import calling, instead
from tests.support.wait import until

#: Slots that the readers share.
SLOTS = 8
#: ``incr.margin``, in seconds.
MARGIN = 3


class Worker:
    """A worker without scanners, in a thread, and what the supervisor hears of it.

    Its slots are free when the test says so: no target acknowledges anything by itself.
    """

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._heard: list[Any] = []
        self._leases = 0
        ours, theirs = socket.socketpair()
        self._supervisor = SupervisorChannel(ours, messages.WORKER)
        self._descriptor = arena.create(SLOTS)
        settings = {"id": "t", "target.address": "mongodb://none", "qps.incr.batch_num": "1"}
        settings["incr.margin"] = str(MARGIN)
        set_up = messages.WorkerSetup(
            number=0,
            endpoint=Endpoint(simulator.url, "eu-west-1"),
            credentials=Credentials("AKIA", "secret"),
            arena=self._descriptor,
            scanners=0,
            free=range(SLOTS),
        )
        config = Config.from_settings(settings | {"journal.path": str(folder)})
        self._worker = worker.WorkerMain(ChildChannel(theirs, messages.WORKER), config, set_up)
        self._thread = threading.Thread(
            target=self._worker.serve, args=(iter(self.sent.get, None),), daemon=True
        )
        self._thread.start()

    def read(
        self,
        table: Table,
        *,
        keep: bool = False,
        at_tip: messages.ShardEnd | None = None,
        since: float = 0.0,
    ) -> int:
        """Have the first shard of a table read; the number of its lease, and of the table.

        ``at_tip``: how its last lease ended.
        """
        shard = table.stream.open()[0]
        self._leases += 1
        number = self._leases
        stream = messages.OpenStream(
            number, table.name, Keys(Attribute("pk", "S")), table.stream.arn, since, False
        )
        self.sent.put(stream)
        position = number, number, shard.id, str(shard.start), ""
        iterator = (at_tip.iterator,) if at_tip else ()
        self.sent.put(messages.LeaseShard(*position, keep, "" if keep else None, 0, *iterator))
        return number

    def heard(self, kind: type[Any] | tuple[type[Any], ...], lease: int = 0) -> list[Any]:
        """What it has said of this kind, about one lease where ``lease`` is given."""
        self._heard += self._supervisor.receive()[0]
        found = [one for one in self._heard if isinstance(one, kind)]
        return [one for one in found if not lease or one.lease == lease]

    def close(self) -> None:
        self.sent.put(messages.Drain())
        self.sent.put(None)
        self._thread.join()
        for thread in threading.enumerate():
            if thread.name.startswith("shard-"):
                thread.join(10)
                assert not thread.is_alive()
        os.close(self._descriptor)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(clock=Clock(time.time)) as simulator:
        yield simulator


@pytest.fixture
def reading(simulator: Simulator, tmp_path: Path) -> Iterator[Worker]:
    reading = Worker(simulator, tmp_path)
    yield reading
    reading.close()


def table_of(simulator: Simulator, name: str, records: int) -> Table:
    table = simulator.table(name)
    for number in range(records):
        table.put({"pk": {"S": f"k{number}"}})
    return table


@pytest.mark.parametrize(
    ("code", "answer"),
    [("AccessDeniedException", Failed), ("TrimmedDataAccessException", messages.ShardGap)],
)
def test_while_a_new_shard_is_not_known_everywhere_another_refusal_is_heard(
    simulator: Simulator, reading: Worker, code: str, answer: type[Any]
) -> None:
    unknown = error("ResourceNotFoundException")
    simulator.faults.next("GetShardIterator", instead(unknown), instead(error(code)))
    reading.read(simulator.table("t"))
    [said] = until(lambda: reading.heard(answer))
    assert code in str(said)


# ---- the tip


@pytest.mark.parametrize("keep", [False, True], ids=["applied", "journaled"])
def test_a_shard_is_not_at_its_tip_before_records_behind_many_empty_answers_are_read(
    simulator: Simulator, reading: Worker, keep: bool
) -> None:
    table = table_of(simulator, "t", 2)
    simulator.cold_pages = 40
    began = time.time()
    lease = reading.read(table, keep=keep)
    kind = messages.Journaled if keep else (messages.Batch, messages.Tip)
    said = until(lambda: reading.heard(kind, lease)[2:] and reading.heard(kind, lease))
    assert [getattr(one, "sequence", "") != "" for one in said] == [True, True, False]
    assert began - 2 < said[-1][-1] + MARGIN < time.time()
    assert len(simulator.journal.of("GetRecords")) > 42


def test_a_reader_that_is_told_to_end_first_learns_whether_a_quiet_shard_is_at_its_tip(
    simulator: Simulator, reading: Worker
) -> None:
    """Where shards take turns and the source is far, no turn is too short for that."""
    lease = reading.read(simulator.table("t"))
    simulator.faults.next("GetRecords", *[None] * 10, calling(lambda: told.wait(30)))
    told = threading.Event()
    until(lambda: len(simulator.journal.of("GetRecords")) == 11)
    reading.sent.put(messages.EndLease(lease))
    reading.sent.put(Report())
    until(lambda: reading.heard(Diagnosis))  # so it has been told
    told.set()
    until(lambda: reading.heard(messages.ShardEnd, lease))
    assert len(reading.heard(messages.Tip, lease)) == 1


def test_a_tip_from_before_a_clock_was_set_forward_gets_no_time_of_that_clock(
    simulator: Simulator, reading: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was frozen for so long that it does not know what the clock showed before."""
    monkeypatch.setattr(source_clock, "EPOCH", 1.0)
    monkeypatch.setattr(shard_reader, "EPOCH", 3.0)
    lease = reading.read(simulator.table("t"))
    until(lambda: reading.heard(messages.Tip, lease)[5:])

    def freeze() -> None:
        frozen.append(simulator.clock())
        time.sleep(4)
        simulator.clock.advance(300)
        frozen.append(simulator.clock())

    frozen: list[float] = []
    simulator.faults.next("GetRecords", calling(freeze))
    until(lambda: frozen[1:] and reading.heard(messages.Tip, lease)[-1].moment > frozen[1] - MARGIN)
    times = [tip.moment + MARGIN for tip in reading.heard(messages.Tip, lease)]
    assert [one for one in times if frozen[0] < one < frozen[1] - 2] == []


def test_a_tip_takes_eight_answers_without_records_however_long_the_shard_is_quiet() -> None:
    now, silence = 1000.0, Silence(cold=0)

    def tips(number: int, records: int = 0, every: float = 1.0) -> list[float | None]:
        nonlocal now
        found = []
        for _ in range(number):
            now += every
            tip = silence.tip(records, now)
            found.append(None if tip is None else now - tip)
        return found

    assert tips(60 + TIP_AFTER)[TIP_AFTER - 2 :: 30] == [None, 7.0, 7.0]
    assert silence.quiet
    assert tips(1, every=61.0) == [67.0]
    assert tips(1, records=1) == [None]
    assert not silence.quiet
    assert tips(TIP_AFTER) == [None] * (TIP_AFTER - 1) + [7.0]


def test_a_quiet_shard_is_asked_about_once_a_second_and_its_tip_goes_on(
    simulator: Simulator, reading: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tips_module, "QUIET_AFTER", 1.0)
    lease = reading.read(table_of(simulator, "t", 1))

    def pauses() -> list[float]:
        began = [call.began for call in simulator.journal.of("GetRecords")]
        return [later - one for one, later in itertools.pairwise(began)]

    until(lambda: len([one for one in pauses()[-3:] if one > 0.85]) == 3)
    tips = len(reading.heard(messages.Tip, lease))
    calls = len(simulator.journal.of("GetRecords"))
    until(lambda: len(reading.heard(messages.Tip, lease)) >= tips + 2)
    assert len(simulator.journal.of("GetRecords")) - calls <= 5
    reading.sent.put(messages.PollQuickly(boot_clock() + 60))  # /ready is asked for
    until(lambda: len([one for one in pauses()[-8:] if one < 0.6]) == 8)
    simulator.tables["t"].put({"pk": {"S": "new"}})
    until(lambda: len(reading.heard(messages.Batch, lease)) == 2)


def test_a_shard_that_gave_its_reader_away_is_read_on_by_the_iterator_that_it_had(
    simulator: Simulator, reading: Worker
) -> None:
    table = table_of(simulator, "t", 1)
    lease = reading.read(table)
    until(lambda: reading.heard(messages.Tip, lease))
    reading.sent.put(messages.EndLease(lease))
    [end] = until(lambda: reading.heard(messages.ShardEnd, lease))
    assert end.iterator
    calls = len(simulator.journal.of("GetRecords"))
    lease = reading.read(table, at_tip=end)
    until(lambda: reading.heard(messages.Tip, lease))
    assert len(simulator.journal.of("GetRecords")) - calls < COLD / 2
    table.put({"pk": {"S": "new"}})
    until(lambda: reading.heard(messages.Batch, lease))
    assert len(simulator.journal.of("GetShardIterator")) == 1


# ---- slots


def test_old_changes_are_left_out_until_the_source_s_clock_is_set_back(
    simulator: Simulator, reading: Worker
) -> None:
    """Then new changes can have times from before following began."""
    table, clock = simulator.table("orders"), simulator.clock

    def put(key: str, ago: float) -> None:
        clock.advance(-ago)
        table.put({"pk": {"S": key}})
        clock.advance(ago)

    def records() -> list[int]:
        return [batch.records for batch in reading.heard(messages.Batch)]

    put("old", ago=600)
    reading.read(table, since=clock() - 60)
    until(lambda: records() == [0])
    put("still old", ago=600)
    until(lambda: records() == [0, 0])
    clock.advance(-300)
    put("new", ago=0)
    until(lambda: records() == [0, 0, 1])
    clock.advance(300)
    put("new, and read when the time is past that of the beginning", ago=300)
    until(lambda: records() == [0, 0, 1, 1])


def stuck(simulator: Simulator, reading: Worker) -> int:
    """The lease of a shard whose batches are not applied, and whose reader waits for a slot."""
    hung = table_of(simulator, "hung", 2 * SLOTS)
    lease = reading.read(hung)

    def waits() -> bool:
        published = len(reading.heard(messages.Batch, lease))
        asked = simulator.journal.of("GetRecords", table="hung")
        return arena.SLOTS_PER_READER <= published < len(asked) and asked[-1].status == 200

    until(waits)
    return lease


@pytest.mark.parametrize("keep", [False, True], ids=["applied", "journaled"])
def test_a_table_that_nobody_applies_leaves_slots_to_others(
    simulator: Simulator, reading: Worker, keep: bool
) -> None:
    stuck(simulator, reading)
    lease = reading.read(table_of(simulator, "other", 3), keep=keep)
    until(lambda: reading.heard(messages.Journaled if keep else messages.Batch, lease))


def test_a_reader_that_waits_for_a_slot_leaves_when_it_is_told_to(
    simulator: Simulator, reading: Worker
) -> None:
    lease = stuck(simulator, reading)
    reading.sent.put(messages.EndLease(lease))
    [end] = until(lambda: reading.heard(messages.ShardEnd, lease))
    assert not end.over


def test_a_reader_goes_on_when_a_slot_of_its_own_is_free_again(
    simulator: Simulator, reading: Worker
) -> None:
    lease = stuck(simulator, reading)
    for number in range(2 * SLOTS):
        batch = until(lambda: reading.heard(messages.Batch, lease)[number:])[0]  # noqa: B023
        reading.sent.put(messages.Free(batch.slot))
    assert len(reading.heard(messages.Batch, lease)) == 2 * SLOTS


@pytest.mark.parametrize(("cold", "records"), [(0, 3), (1, 3), (3, 3), (3, 0)])
def test_a_shard_that_is_over_ends_however_many_answers_that_takes(
    tmp_path: Path, cold: int, records: int
) -> None:
    """A new iterator gives so many empty answers before it says that the shard is over."""
    with Simulator(clock=Clock(time.time)) as simulator:
        simulator.cold_pages = cold
        worker = Worker(simulator, tmp_path)
        table = table_of(simulator, "t", records)
        lease = worker.read(table)
        table.stream.roll_over(table.stream.open()[0])
        freed = 0

        def over() -> bool:
            nonlocal freed
            batches = worker.heard(messages.Batch, lease)
            for batch in batches[freed:]:
                worker.sent.put(messages.Free(batch.slot))
            freed = len(batches)
            return bool(worker.heard(messages.ShardEnd, lease))

        until(over)
        [end] = worker.heard(messages.ShardEnd, lease)
        assert end.over
        worker.close()
