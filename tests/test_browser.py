"""The status page in a real browser: usable by all, on each screen, in each phase.

``make browser`` runs these tests; SHAKE_PICTURES names a folder for pictures of what they see.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shake.control.commands import Command, Finish, Pause, Reply, SetBudget
from shake.status.http_server import Server
from shake.status.monitor import Monitor
from shake.status.routes import status_server
from shake.status.snapshot import Snapshot, TableStatus
from tests.support.scenes import SCENES, monitored
from tests.support.wait import until

pytest.importorskip("selenium")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.browser import SIZES, Browser, browser, programs

TOKEN = "open-sesame"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(programs() is None, reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = programs()
    assert found
    with browser(found) as opened:
        yield opened


@pytest.fixture
def page(chromium: Browser) -> Browser:
    """A browser as of a laptop, for a user who prefers light."""
    chromium.resize("laptop")
    chromium.prefer("light")
    chromium.driver.get("about:blank")
    chromium.complaints()
    return chromium


@contextlib.contextmanager
def served(
    scene: str | Callable[[], Snapshot],
    token: str | None = None,
    steer: Callable[[Command], Reply] | None = None,
) -> Iterator[Server]:
    """The status page of a task that has come to a scene."""
    made = SCENES[scene] if isinstance(scene, str) else scene
    monitor = monitored(made)
    with status_server(made, "127.0.0.1", 0, token, steer=steer, monitor=monitor) as server:
        yield server


def keep_picture(page: Browser, name: str) -> None:
    if folder := os.environ.get("SHAKE_PICTURES"):
        page.picture(str(Path(folder, f"{name}.png")))


# ---- on each screen, in each phase


@pytest.mark.parametrize("scene", SCENES)
def test_no_rule_of_accessibility_is_broken(page: Browser, scene: str) -> None:
    """axe-core finds nothing, and nothing is wider than the screen."""
    with served(scene) as server:
        for size, scheme in [(size, "light") for size in SIZES] + [("laptop", "dark")]:
            page.resize(size)
            page.prefer(scheme)
            page.open(server.port)
            until(lambda: page.has("#charts svg .line"))
            keep_picture(page, f"{scene}-{size}-{scheme}")
            assert page.problems() == [], (size, scheme)
            width = page.script("return document.documentElement.scrollWidth")
            assert width <= SIZES[size][0], size
    assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken_by_what_was_folded(page: Browser, scheme: str) -> None:
    page.prefer(scheme)
    with served("degraded") as server:
        page.open(server.port)
        for element in page.driver.find_elements(By.CSS_SELECTOR, "summary, [aria-expanded=false]"):
            if element.is_displayed():
                element.click()
        assert page.problems() == []


def test_300_tables_and_64_workers_fit(page: Browser) -> None:
    with served("many") as server:
        page.open(server.port)
        assert page.script("return document.documentElement.scrollHeight") < 2200
        assert page.rows() == [f"tenant-{number}-orders" for number in range(140, 148)]
        last = page.find("#tables tbody tr:not(.group):not(.more):last-child")
        assert last.location["y"] < 1200
        page.resize("phone")
        assert page.script("return document.documentElement.scrollHeight") < 6500


# ---- what a user does


def test_done_tables_are_unfolded_by_a_click_or_a_key(page: Browser) -> None:
    with served("many") as server:
        page.open(server.port)
        done = page.find("#tables tbody:last-of-type .group button")
        assert (done.text, done.get_attribute("aria-expanded")) == ("Done (140)", "false")
        done.click()
        assert len(page.rows()) == 8 + 25
        page.find("#tables tbody:last-of-type .more button").click()
        assert len(page.rows()) == 8 + 140
        done.send_keys(Keys.ENTER)
        assert len(page.rows()) == 8


def test_a_table_is_found_by_a_part_of_its_name(page: Browser) -> None:
    with served("many") as server:
        page.open(server.port)
        page.find("body").send_keys("/")
        page.driver.switch_to.active_element.send_keys("NANT-01")
        assert page.rows() == [f"tenant-01{number}-orders" for number in range(10)]
        page.driver.switch_to.active_element.send_keys("nothing")
        assert page.rows() == []
        assert page.text("#none") == "No table has that in its name."


def test_a_chart_is_read_by_keys(page: Browser) -> None:
    with served("copy") as server:
        page.open(server.port)
        until(lambda: page.has("#charts svg .line"))
        chart = page.find("#charts svg")
        label = chart.get_attribute("aria-label")
        assert label
        assert label.startswith("Written over the last 1h 5")
        page.script("arguments[0].focus()", chart)
        page.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
        assert "UTC: " in page.text("#charts .readout")
        page.driver.switch_to.active_element.send_keys(Keys.HOME)
        first = page.text("#charts .readout")
        page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        assert page.text("#charts .readout") != first


def test_what_has_the_focus_keeps_it_while_figures_change(page: Browser) -> None:
    part = 0.4

    def moving() -> Snapshot:
        snapshot = SCENES["copy"]()
        items = int(snapshot.tables[0].items * (1 + part))
        return replace(
            snapshot, tables=(replace(snapshot.tables[0], items=items), *snapshot.tables[1:])
        )

    monitor = Monitor(moving)
    with status_server(moving, "127.0.0.1", 0, None, monitor=monitor) as server:
        page.open(server.port)
        before = page.text("#facts")
        button = page.find("#tables tbody:last-of-type .group button")
        page.script("arguments[0].focus()", button)
        part = 0.8
        until(lambda: page.text("#facts") != before)
        assert page.driver.switch_to.active_element == button


def test_a_token_is_asked_for_and_kept_by_the_tab(page: Browser) -> None:
    with served("follow", token=TOKEN) as server:
        page.open(server.port)
        assert page.shown("ask")
        assert page.problems() == []
        page.find("#token").send_keys("wrong", Keys.ENTER)
        until(lambda: page.shown("refused"))
        page.find("#token").send_keys(TOKEN, Keys.ENTER)
        until(lambda: page.shown("view"))
        assert page.text("#answer") == "Switch: yes"
        page.open(server.port)
        assert page.shown("view")
        page.script("sessionStorage.clear()")
        page.open(server.port, f"#token={TOKEN}")
        assert page.shown("view")
        assert TOKEN not in page.driver.current_url


def test_the_page_of_a_task_that_has_ended_keeps_its_reason(page: Browser) -> None:
    with served("gap") as server:
        page.open(server.port)
    until(lambda: "shake has exited" in page.text("#banners"))
    assert page.text("#state") == "failed"
    assert "changes are lost" in page.text("#lines")
    assert page.problems() == []


def test_a_task_that_does_not_answer_shows_its_last_figures(page: Browser) -> None:
    with served("copy") as server:
        page.open(server.port)
    until(lambda: "shake does not answer" in page.text("#banners"))
    assert page.text("#state") == "no answer"
    assert page.text("#figure") == "48.2%"


def test_names_never_become_html(page: Browser) -> None:
    name = "<img src=x onerror=document.title='broken'>"
    table = TableStatus(name, f"shop.{name}", "copying", error=f"{name}: no")
    with served(lambda: replace(SCENES["copy"](), id=name, tables=(table,))) as server:
        page.open(server.port)
        assert page.rows() == [name]
        assert page.text("#id") == name
        assert page.driver.find_elements(By.TAG_NAME, "img") == []


# ---- steering


def test_a_task_is_steered_from_its_page(page: Browser) -> None:
    commands: list[Command] = []

    def steer(command: Command) -> Reply:
        commands.append(command)
        return Reply(not isinstance(command, SetBudget), f"heard {len(commands)}")

    with served("copy", TOKEN, steer) as server:
        page.open(server.port, f"#token={TOKEN}")
        assert page.problems() == []
        page.find("[data-action=pause]").click()
        until(lambda: page.text("#said") == "heard 1")
        page.find("#budget-table").send_keys("orders")
        page.find("#budget-units").send_keys("500", Keys.ENTER)
        until(lambda: page.text("#said") == "heard 2")
        assert page.find("#said").get_attribute("class") == "bad"
        page.find("[data-action=finish]").click()
        page.driver.switch_to.alert.accept()
        until(lambda: page.text("#said") == "heard 3")
    assert commands == [Pause(), SetBudget("orders", "500"), Finish()]


def test_a_task_that_is_paused_can_only_be_resumed(page: Browser) -> None:
    def paused() -> Snapshot:
        return replace(SCENES["copy"](), state="paused")

    with served(paused, TOKEN, lambda command: Reply(True, "")) as server:
        page.open(server.port, f"#token={TOKEN}")
        assert not page.find("[data-action=pause]").is_enabled()
        assert page.find("[data-action=resume]").is_enabled()
        assert page.problems() == []


def test_a_page_that_cannot_steer_offers_nothing(page: Browser) -> None:
    with served("copy") as server:
        page.open(server.port)
        assert not page.shown("control")
