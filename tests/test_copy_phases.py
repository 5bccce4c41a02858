"""The life of a table: each step only when the one before is durable, and no step left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shake.checkpoint.identity import Identity
from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.config import load
from shake.copy.phases import CopyPhases
from shake.copy.table import CopiedTable
from shake.farm.farm import Farm
from shake.farm.writer_messages import BuildIndexes, DeleteRanges, Done, Prepare, Publish, Resume
from shake.limits import Budget
from shake.phase import Phase
from shake.plan.plan import Action
from shake.process.loop import Loop
from tests.support.task import Notes
from tests.test_copy_table import Reading, page, plan_of

UUID = "0" * 32


class Stage:
    """A phases whose saves and orders are noted, and confirmed when a test says so."""

    def __init__(self, copies: list[CopiedTable], *settings: str) -> None:
        given = ["id=task", "target.address=mongodb://127.0.0.1:1/", "sync_mode=full", *settings]
        self.steps: list[Any] = []
        self.unsaved: list[Callable[[], None]] = []
        self.writers: dict[int, Any] = {}
        self.copies = copies
        config, loop = load(None, {}, given).config, Loop(lambda: 1.0)
        here: Any = self  # as pool, checkpointer, scheduler and each writer
        farm = Farm(config, loop, here, here, Notes(writer=here), here)
        self.phases = CopyPhases(farm, copies, self.writers, here)

    # ---- as the scheduler

    def assign(self) -> None:
        self.steps.append("lease")

    # ---- as the checkpointer

    def save_table(self, record: TableRecord, then: Callable[[], None]) -> None:
        self.steps.append(record.phase)
        self.unsaved.append(then)

    def save_identity(self, table: str, old: Identity, new: Identity) -> None:
        self.steps.append(("identity", new.collection_uuid))

    def save_run(self, copy: CopiedTable, then: Callable[[], None]) -> None:
        self.save_table(copy.record, then)

    def save_segments(self, copies: list[CopiedTable]) -> None:
        self.steps += [("segments", len(copy.take_dirty())) for copy in copies]

    # ---- as each writer, and its process

    @property
    def process(self) -> Any:
        return self

    def order(self, order: Any) -> None:
        self.steps.append(order)

    def close(self) -> None:
        self.steps.append("closed")

    # ---- what a test does

    def after(self, *events: Any) -> list[Any]:
        """The steps that follow."""
        self.steps.clear()
        for event in events:
            event()
        return list(self.steps)

    def saved(self) -> None:
        self.unsaved.pop(0)()

    def all_saved(self) -> None:
        while self.unsaved:
            self.saved()

    def done(self, number: int = 0, error: str = "", *, has_key_index: bool = True) -> None:
        self.phases.carried_out(number, Done(number, error, has_key_index, "", UUID))


def table(
    number: int = 0,
    state: Phase = Phase.PREPARING,
    action: Action = Action.CREATE,
    *segments: SegmentRecord,
) -> CopiedTable:
    plan = plan_of(list(segments) or [SegmentRecord(0)], action)
    run = 1 if action is Action.RESUME else 0
    identity = Identity(collection_uuid="" if action is Action.CREATE else UUID)
    plan = replace(plan, record=replace(plan.record, phase=state, run=run), identity=identity)
    return CopiedTable(number, plan, Budget(1000, None, 0.0), 0.0)


def test_every_step_waits_until_the_one_before_is_durable() -> None:
    copy = table()
    stage = Stage([copy])
    assert stage.after(stage.phases.begin_tables) == [Phase.PREPARING]
    assert stage.after(stage.saved) == [Prepare(0, "create")]
    assert stage.after(stage.done) == [("identity", UUID), ("segments", 0), Phase.COPYING]
    assert stage.after(stage.saved) == ["lease"]
    reading = Reading(copy)
    reading.publish(reading.lease(), page(1, None, 7))
    reading.store()
    (delete_ranges,) = stage.after(lambda: stage.phases.all_stored(copy))
    assert delete_ranges == DeleteRanges(0, copy.tails(before=1))
    assert stage.after(lambda: stage.phases.all_stored(copy)) == []  # told twice
    assert stage.after(stage.done) == [("segments", 1), Phase.INDEXING]
    assert stage.after(stage.saved) == [BuildIndexes(0, 7, 1)]
    assert stage.after(stage.done) == [Publish(0, UUID, "create", "", [])]
    assert stage.after(stage.done) == [("segments", 0), Phase.DONE]
    assert not stage.phases.over
    assert stage.after(stage.saved) == ["closed"]
    assert stage.phases.over


def test_a_stopped_copy_is_cleaned_before_it_goes_on() -> None:
    open_, done = SegmentRecord(0, b"k", 5), SegmentRecord(1, None, 9, done=True)
    copy = table(0, Phase.COPYING, Action.RESUME, open_, done)
    stage = Stage([copy])
    assert stage.after(stage.phases.begin_tables) == [Phase.COPYING]
    (resume,) = stage.after(stage.saved)
    assert (resume.collection_uuid, len(resume.ranges)) == (UUID, 2)
    assert stage.after(stage.done) == ["lease"]


def test_a_copy_that_was_stopped_behind_its_last_page_settles_at_once() -> None:
    done = SegmentRecord(0, None, 9, done=True)
    stage = Stage([table(0, Phase.COPYING, Action.RESUME, done)])
    (resume,) = stage.after(stage.phases.begin_tables, stage.saved)[1:]
    assert len(resume.ranges) == 1
    (delete_ranges,) = stage.after(stage.done)
    assert len(delete_ranges.ranges) == 1
    assert stage.copies[0].phase is Phase.TRIMMING


def test_where_a_rename_changes_the_uuid_its_order_is_repeated_once_that_is_durable() -> None:
    """The repeated order removes the mark by which a run knows the collection until then."""
    stage = Stage([table(0, Phase.INDEXING, Action.RESUME)])
    stage.after(stage.phases.begin_tables, stage.saved)
    other = "1" * 32

    def renamed() -> None:
        stage.phases.carried_out(0, Done(0, collection_uuid=other))

    assert stage.after(renamed) == [("identity", other), Phase.INDEXING]
    assert stage.after(stage.saved) == [Resume(0, other, [])]
    assert stage.after(renamed) == [BuildIndexes(0, 0, 1)]
    assert stage.after(renamed) == [Publish(0, other, "create", "", [])]
    assert stage.after(stage.done) == [("identity", UUID), Phase.INDEXING]
    assert stage.after(stage.saved) == [Publish(0, UUID, "create", "", [])]
    assert stage.after(stage.done) == [("segments", 0), Phase.DONE]


def test_a_table_that_was_stopped_while_indexing_goes_on_there() -> None:
    stage = Stage([table(0, Phase.INDEXING, Action.RESUME)])
    assert stage.after(stage.phases.begin_tables, stage.saved)[1:] == [Resume(0, UUID, [])]
    assert stage.after(stage.done) == [BuildIndexes(0, 0, 1)]
    assert stage.after(stage.done) == [Publish(0, UUID, "create", "", [])]
    assert stage.after(stage.done, stage.saved) == [("segments", 0), Phase.DONE, "closed"]


def refused(copy: CopiedTable, *, has_key_index: bool = True) -> Stage:
    stage = Stage([copy])
    stage.phases.begin_tables()
    stage.saved()
    stage.done()
    stage.after(
        lambda: stage.done(error="index a_1 was refused", has_key_index=has_key_index),
        stage.all_saved,
    )
    assert copy.error == "index a_1 was refused"
    return stage


def test_a_refused_index_is_shown_and_tried_again_by_a_later_run_that_counts_no_documents() -> None:
    copied = SegmentRecord(0, None, 5, done=True)
    copy = table(0, Phase.INDEXING, Action.RESUME, copied)
    stage = refused(copy)
    assert stage.steps == [Publish(0, UUID, "create", "", [])]
    assert stage.after(stage.done, stage.saved) == [*(("segments", 0), Phase.BROKEN, "closed")]
    assert stage.phases.over

    again = Stage([table(0, Phase.BROKEN, Action.RESUME, copied)])
    assert again.after(again.phases.begin_tables, again.saved)[1:] == [BuildIndexes(0, 0, 1)]
    assert again.after(again.done, again.saved) == [("segments", 0), Phase.DONE, "closed"]


def test_without_its_unique_index_a_table_is_not_followed_and_counted_again() -> None:
    copy = table(0, Phase.INDEXING, Action.RESUME)
    stage = refused(copy, has_key_index=False)
    assert stage.steps == ["closed"]
    assert stage.phases.over
    assert not copy.has_key_index
    assert copy.record.phase is Phase.INDEXING


def test_with_the_schema_only_nothing_is_leased() -> None:
    stage = Stage([table()], "sync_schema_only=true")
    stage.phases.begin_tables()
    stage.saved()
    assert stage.after(stage.done, stage.saved) == [
        *(("identity", UUID), ("segments", 0), Phase.INDEXING, BuildIndexes(0, 0, 1))
    ]


@pytest.mark.parametrize(
    "settings",
    [
        ["id.mode=key"],
        [
            "target.type=aliyun_dynamo_proxy",
            "target.address=http://127.0.0.1:1",
            "checkpoint.type=file",
        ],
    ],
)
def test_where_a_second_write_is_the_same_document_nothing_is_forgotten(
    settings: list[str],
) -> None:
    copy = table(0, Phase.COPYING, Action.RESUME, SegmentRecord(0, b"k", 5))
    stage = Stage([copy], *settings)
    assert stage.after(stage.phases.begin_tables, stage.saved)[1:] == [Resume(0, UUID, [])]


def test_no_more_tables_are_at_work_than_may_be_and_none_is_forgotten() -> None:
    copies = [table(number, Phase.INDEXING, Action.RESUME) for number in range(5)]
    copies[2] = table(2, Phase.DONE, Action.COMPLETE)
    stage = Stage(copies, "full.concurrency=2")
    stage.phases.begin_tables()
    stage.all_saved()
    assert sorted(stage.writers) == [0, 1]

    def finish(number: int, error: str = "") -> None:
        for event in ("resumed", "indexed", "published"):
            stage.done(number, error=error * (event == "indexed"))
        stage.all_saved()

    finish(1)
    assert sorted(stage.writers) == [0, 3]
    finish(0, "refused")
    assert sorted(stage.writers) == [3, 4]
    for number in (3, 4):
        finish(number)
    assert stage.phases.over


def test_thousands_of_complete_tables_are_passed_over() -> None:
    copies = [table(number, Phase.DONE, Action.COMPLETE) for number in range(3000)]
    stage = Stage([*copies, table(3000)])
    assert stage.after(stage.phases.begin_tables) == [Phase.PREPARING]
    assert sum(copy.over for copy in copies) == 3000
