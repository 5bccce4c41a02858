"""A real browser without a screen, and the accessibility rules of axe-core."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from shake.demo.fetch import Package, npm_package
from tests.support.wait import until

#: Mozilla Public License 2.0; a tool for tests, fetched when they run.
AXE = Package(
    "axe-core",
    "4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    frozenset({"axe.min.js", "LICENSE"}),
)
#: Width and height in pixels, and whether it is a touch screen.
SIZES = {"phone": (390, 844, True), "laptop": (1366, 768, False), "wall": (1920, 1080, False)}
_OPTIONS = ("--headless=new", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-gpu")


def programs() -> tuple[str, str] | None:
    """Paths of Chromium and its driver, where both are installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@cache
def axe_script() -> str:
    return (npm_package(AXE, "axe-core (3 MB, once)") / "axe.min.js").read_text()


@dataclass(frozen=True)
class Browser:
    """One window. Each ``open`` begins anew."""

    driver: Chrome

    def resize(self, size: str) -> None:
        width, height, mobile = SIZES[size]
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def prefer(self, scheme: str) -> None:
        """Show pages as for a user who prefers ``light`` or ``dark``."""
        wanted = {"name": "prefers-color-scheme", "value": scheme}
        self._devtools("Emulation.setEmulatedMedia", features=[wanted])

    def open(self, port: int, fragment: str = "") -> None:
        """Open the status page, and wait until it shows something."""
        self.driver.get("about:blank")
        self.driver.get(f"http://127.0.0.1:{port}/{fragment}")
        until(lambda: self.shown("view") or self.shown("ask"))

    def shown(self, id: str) -> bool:
        return bool(self.script("return !document.getElementById(arguments[0]).hidden", id))

    def text(self, selector: str) -> str:
        """What a user sees of an element."""
        return self.find(selector).text

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def has(self, selector: str) -> bool:
        return bool(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def rows(self) -> list[str]:
        """The names of the tables that are shown."""
        names = "#tables tbody tr:not(.group):not(.more) .name b"
        return [one.text for one in self.driver.find_elements(By.CSS_SELECTOR, names)]

    def script(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def problems(self) -> list[str]:
        """What axe-core finds wrong with the page: its rule, and the elements."""
        self.script(axe_script())
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
            ".then((found) => done(found.violations), (error) => done([{id: String(error),"
            " nodes: []}]))"
        )
        return [
            f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in found
        ]

    def complaints(self) -> list[str]:
        """What the browser's console says since the last call, such as a broken policy."""
        return [str(line["message"]) for line in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def picture(self, path: str) -> None:
        self.driver.save_screenshot(path)

    def _devtools(self, command: str, **arguments: object) -> None:
        self.driver.execute_cdp_cmd(command, arguments)


@contextlib.contextmanager
def browser(found: tuple[str, str]) -> Iterator[Browser]:
    """Start the programs that :func:`programs` found."""
    options = ChromeOptions()
    options.binary_location, driver = found
    for option in (*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options, Service(driver))
    try:
        chrome.set_script_timeout(60)
        yield Browser(chrome)
    finally:
        chrome.quit()
