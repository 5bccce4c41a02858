"""What the status page says: a headline for each phase, what is wrong, and tables by need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shake.status.estimates import Finish
from shake.status.events import Event, Events
from shake.status.snapshot import CheckStatus, ProcessStatus, TableStatus
from tests.support.page import shown, texts
from tests.support.scenes import SCENES, monitored
from tests.support.snapshots import table, task

HOUR = 3600.0
#: 2019-07-01 16:53:20 UTC.
NOW = 1_562_000_000.0
APPLIED = {"lag": 3.0, "unread": 3.0, "applied_through": NOW + 3.9, "consistent": True}
#: Followed, and quiet for an hour.
QUIET = APPLIED | {"newest_change": NOW - HOUR, "quiet_seconds": HOUR}


def followed(name: str = "orders", **figures: Any) -> TableStatus:
    return table(name, "following", items=1000, **(QUIET | figures))


def banners(page: dict[str, Any]) -> list[tuple[str, str]]:
    return [(banner["tone"], banner["text"]) for banner in page["banners"]]


# ---- the headline


def test_a_copy_shows_how_far_it_is_and_the_clock_time_of_its_end_with_its_uncertainty() -> None:
    snapshot = task(table(items=423, rate=50.0), time=NOW)
    page = shown(snapshot, finish=Finish(3900.0, 3000.0, 6000.0))
    head = page["headline"]
    assert (head["figure"], head["fraction"]) == ("42.3%", 0.423)
    assert head["lines"][0] == "Copied at about 17:58 UTC, in 1h 05m (between 17:43 and 18:33)"


def test_an_end_on_another_day_has_its_date() -> None:
    page = shown(task(table(items=1), time=NOW), finish=Finish(90_000.0, 80_000.0, 99_000.0))
    assert "Tue 02 Jul 17:53 UTC" in page["headline"]["lines"][0]


def test_a_paused_copy_names_no_end() -> None:
    snapshot = task(table(items=423), state="paused", time=NOW, paused_at=NOW)
    page = shown(snapshot, finish=Finish(3900.0, 3000.0, 6000.0))
    assert page["headline"]["lines"][0] == "It is paused: nothing is copied until it is resumed."
    text = "Paused since 2019-07-01T16:53:20Z: nothing is read until shake control resume"
    assert banners(page) == [("warn", text)]


def test_no_end_is_named_before_it_can_be_told() -> None:
    head = shown(task(table(items=423)))["headline"]
    assert head["lines"][0] == "It is not known yet when the copy ends."


def test_a_task_that_follows_says_whether_one_can_switch_and_how() -> None:
    head = shown(task(followed(), source_time=NOW + 6, margin=10.0, whole=True))["headline"]
    assert (head["figure"], head["answer"], head["tone"]) == (
        "2019-07-01 16:53:23 UTC",
        "yes",
        "good",
    )
    assert (
        "Stop writes at the source and note the time by its clock, rounded up. Add some seconds "
        "where you take it from this page or from another clock. Wait until this page shows a "
        "later 'applied through' time. Then run shake control finish, which ends shake when all is "
        "applied. Switch." in head["lines"]
    )


def test_a_task_that_cannot_switch_yet_says_what_is_missing() -> None:
    page = shown(task(followed(pending=212), source_time=NOW + 6, whole=True))
    assert page["headline"]["answer"] == "no"
    assert "Because 212 changes read and not applied yet." in page["headline"]["lines"]


def test_a_time_that_is_not_known_is_not_shown() -> None:
    page = shown(task(table(state="following", lag=3.0, unread=3.0), whole=True))
    assert page["headline"]["figure"] == "not known yet"
    assert ["Consistent point", "not reached yet"] in [list(fact[:2]) for fact in page["facts"]]


def test_a_small_table_that_is_followed_does_not_hide_a_large_one_that_is_copied() -> None:
    copying = table("large", items=250, rate=50.0, seconds_left=15.0)
    page = shown(task(table("small", "following", items=10, lag=3.0, unread=3.0), copying))
    assert page["headline"]["figure"] == "25.7%"
    assert not {"Lag", "Consistent point"} & {fact[0] for fact in page["facts"]}


def test_an_index_build_shows_how_far_it_is() -> None:
    building = table(
        state="indexing",
        items=1000,
        segments_done=4,
        index_step="scanning collection",
        index_progress=0.43,
    )
    page = shown(task(building, table("small", "done", items=5)))
    assert (page["headline"]["figure"], page["headline"]["fraction"]) == ("43.0%", 0.43)
    assert "scanning collection 43.0%" in texts(page["groups"][0])


@pytest.mark.parametrize("state", ["failed", "finished", "stopped"])
def test_an_end_shows_state_and_reason(state: str) -> None:
    head = shown(task(table("orders", "done", items=9), state=state, reason="as it is"))["headline"]
    assert head["figure"] == state.capitalize()
    assert head["lines"][0] == "as it is"
    assert ", ran for 10s" in shown(task(state=state))["about"]
    assert ("start the task again" in " ".join(head["lines"])) == (state == "failed")


def test_a_gap_says_what_to_do_instead_of_a_plain_restart() -> None:
    reason = "table a: changes are lost: start again with gap.policy = resync to copy it again"
    lines = shown(task(table("a"), state="failed", gap=True, reason=reason))["headline"]["lines"]
    assert lines[0] == reason
    assert "same configuration" not in " ".join(lines)


def test_kept_items_are_behind_no_green_word_and_their_table_comes_first() -> None:
    moment = task(followed("a"), followed("b", kept=2), source_time=NOW + 6, margin=10.0)
    page = shown(replace(moment, whole=True))
    assert (page["headline"]["answer"], page["headline"]["tone"]) == ("yes", "warn")
    assert [tone for name, *_, tone in page["facts"] if name == "Consistent point"] == ["warn"]
    first = page["groups"][0]
    assert (first["name"], [row["name"] for row in first["rows"]]) == ("Need attention", ["b"])
    assert first["rows"][0]["tone"] == "warn"


# ---- banners


def test_a_broken_table_has_a_banner_while_the_task_runs() -> None:
    page = shown(task(table("b", "broken", error="shop.b: no disk"), table("c")))
    assert banners(page) == [("bad", "1 table broken: b: shop.b: no disk")]


def test_a_change_that_its_stream_will_soon_forget_has_a_banner_and_its_table_comes_first() -> None:
    early, late = table("early", unread=11.9 * HOUR), table("late", "waiting", unread=13 * HOUR)
    page = shown(task(early, late, followed("small", lag=60.0, unread=60.0)))
    assert banners(page)[0][0] == "bad"
    assert "Table late: its oldest unread change is 13h 00m old" in banners(page)[0][1]
    gone = banners(shown(task(table("late", "waiting", unread=25 * HOUR))))[0][1]
    assert gone.endswith("streams keep 24h: what its stream has deleted is lost")
    group = page["groups"][0]
    assert (group["name"], [row["name"] for row in group["rows"]]) == ("Need attention", ["late"])
    assert ("oldest unread change 13h 00m, of 24h that its stream keeps", "bad") in group["rows"][
        0
    ]["notes"]
    assert ("oldest unread change 11h 54m", "") in page["groups"][1]["rows"][0]["notes"]


def test_a_lag_of_hours_is_not_green() -> None:
    page = shown(task(followed(lag=14 * HOUR, unread=14 * HOUR), source_time=NOW, whole=True))
    assert page["headline"]["tone"] == "bad"
    assert ("warn", "1 table lagging: orders is 14h 00m behind") in banners(page)


def test_warnings_of_the_plan_are_banners_and_notices() -> None:
    loud = ("SCAN FILTER ON: only", "NO FENCE: a change", "WEAK WRITE CONCERN: w=1")
    page = shown(
        task(
            table(),
            notices=(*loud, "table a: DynamoDB counts 0 items; this count can be 6 hours old"),
        )
    )
    assert [text for _, text in banners(page)] == list(loud)
    assert page["notices"] == ["table a: DynamoDB counts 0 items; this count can be 6 hours old"]


def test_a_degraded_task_says_why() -> None:
    page = shown(task(table(), state="degraded", reason="target: refused"))
    assert ("warn", "Degraded: target: refused") in banners(page)


# ---- tables and processes


def test_tables_are_sorted_by_need_and_folded_when_done() -> None:
    page = shown(
        task(
            table("a", "done", items=1),
            table("b", "waiting"),
            table("c", items=900),
            table("d", items=100),
            followed("e", lag=2.0),
            followed("f", lag=5.0),
            table("g", "broken"),
        )
    )
    groups = [
        (group["name"], group["folded"], [row["name"] for row in group["rows"]])
        for group in page["groups"]
    ]
    assert groups == [
        ("Need attention", False, ["g"]),
        ("At work", False, ["d", "c"]),
        ("Followed", False, ["f", "e"]),
        ("Waiting", False, ["b"]),
        ("Done", True, ["a"]),
    ]


def test_a_process_shows_its_cpu_and_memory_and_a_replaced_one_comes_first() -> None:
    well = ProcessStatus("worker 0", 77, 8, 3, cpu=0.5, memory=131_000_000)
    page = shown(task(table(), processes=(well, ProcessStatus("worker 1", 0, 8, 0, restarts=2))))
    rows = [(row["name"], row["cells"]) for row in page["processes"]["rows"]]
    assert rows == [
        ("worker 1", ["being replaced", "", "", "0 of 8", "2"]),
        ("worker 0", ["77", "50.0%", "131 MB", "3 of 8", ""]),
    ]


def test_a_check_of_the_running_task_shows_how_far_it_is() -> None:
    check = CheckStatus("running", "orders", 1, 2, 250, 1000, 50.0, 15.0, 12.0, 3, NOW)
    page = shown(replace(task(followed()), check=check))["check"]
    assert page["fraction"] == 0.25
    assert page["text"] == "A check compares table orders (1 of 2)"
    assert "15s left, 3 differences so far" in page["more"]


# ---- what the task did


def test_events_say_in_words_what_has_changed() -> None:
    events = Events()
    process = ProcessStatus("worker 1", 77)
    events.add(task(table("a", "waiting"), processes=(process,), time=NOW))
    events.add(task(table("a"), processes=(process,), time=NOW + 1))
    events.add(
        task(
            table("a", "indexing", items=1200, bytes=3000),
            processes=(replace(process, restarts=1),),
            state="degraded",
            reason="target: refused",
            time=NOW + 2,
        )
    )
    assert list(events.latest) == [
        Event(NOW + 2, "worker 1 crashed and is replaced", "warn"),
        Event(NOW + 2, "table a: 1,200 items copied, 3.00 kB; indexes are built"),
        Event(NOW + 2, "the task is degraded: target: refused", "warn"),
        Event(NOW + 1, "table a: the copy begins, 4 segments"),
        Event(NOW, "the task is running"),
    ]


def test_events_are_bounded() -> None:
    events = Events()
    for number in range(500):
        events.add(task(state="running" if number % 2 else "degraded", reason=str(number)))
    assert len(events.latest) == 200
    assert events.latest[0].text == "the task is running: 499"


@pytest.mark.parametrize("scene", SCENES)
def test_the_history_of_two_hours_is_bounded_in_each_phase(scene: str) -> None:
    history = monitored(SCENES[scene]).history
    assert len(history.points) <= 225
    assert 7000 <= sum(point.seconds for point in history.points) <= 7300
