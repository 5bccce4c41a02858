"""What the status page says, as a browser would show it."""

from __future__ import annotations

from tests.support.page import shown
from tests.support.snapshots import table, task

HOUR = 3600.0


def test_the_page_tells_how_to_switch_once_the_consistent_point_is_reached() -> None:
    applied = {"lag": 3.0, "unread": 3.0, "applied_through": 1_562_000_003.9}
    following = table("orders", "following", items=1000, consistent=True, **applied)
    page = shown(task(following, source_time=1_562_000_006.0, whole=True))
    assert "reached" in page["facts"]
    assert "2019-07-01 16:53:23 UTC" in page["facts"]
    assert "by the source's clock, which shows 2019-07-01 16:53:26 UTC" in page["facts"]
    assert (
        "Stop writes at the source and note the time by its clock, rounded up. Add some seconds "
        "where you take it from this page or from another clock. Wait until this page shows a "
        "later 'applied through' time. Then stop shake and switch." in page["facts"]
    )
    assert "consistent, applied through 2019-07-01 16:53:23 UTC" in page["tables tbody"]


def test_a_table_that_is_not_consistent_shows_no_time_that_is_not_known() -> None:
    page = shown(task(table("orders", "following", lag=3.0, unread=3.0), whole=True))
    assert {"not known yet", "not reached yet"} <= set(page["facts"])
    assert "not consistent yet" in page["tables tbody"]


def test_a_small_table_that_is_followed_does_not_hide_a_large_one_that_is_copied() -> None:
    copying = table("large", items=250, rate=50.0, seconds_left=15.0)
    page = shown(task(table("small", "following", items=10, lag=3.0, unread=3.0), copying))
    assert not {"Lag", "Consistent point"} & set(page["facts"])
    assert list(page["percent"]) == ["25.7%"]
    assert list(page["left"]) == ["15s left"]


def test_a_change_that_its_stream_will_soon_forget_is_red_and_its_table_named() -> None:
    early, late = table("early", unread=11.9 * HOUR), table("late", "waiting", unread=13 * HOUR)
    page = shown(task(early, late, table("small", "following", lag=60.0, unread=60.0)))
    assert page["facts"]["13h 00m, table late"] == "failed"
    rows = page["tables tbody"]
    assert rows["Oldest unread change 13h 00m"] == "failed"
    assert rows["Oldest unread change 11h 54m"] == ""
    assert "Oldest unread change 1m 00s" not in rows  # its lag says the same


def test_a_followed_table_whose_stream_is_not_read_is_red_too() -> None:
    page = shown(task(table("t", "following", lag=20 * HOUR, unread=20 * HOUR)))
    assert page["tables tbody"]["Oldest unread change 20h 00m"] == "failed"
