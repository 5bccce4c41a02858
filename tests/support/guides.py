"""The pages of the documentation as programs: their blocks, and one bash that runs a page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shake.demo.servers import free_port
from tests.support.migration import ROOT
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY

README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^\1```$")
_FILE = re.compile(r"`([\w.-]+\.conf)`")
#: Run before a page: nothing waits longer than it must.
_PRELUDE = "set -euo pipefail\nsleep() { command sleep 0.2; }\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; ``file`` is the file of configuration that the text before it names last."""

    language: str
    text: str
    file: str = ""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        files = _FILE.findall(text[: match.start()])
        found.append(Block(match[2], match[3], files[-1] if files else ""))
    return found


def texts(page: Path, *languages: str) -> list[str]:
    """The texts of the blocks in one of these languages."""
    return [block.text for block in blocks(page) if block.language in languages]


def commands(page: Path, *languages: str) -> list[str]:
    """The command lines of these blocks, without comments; continued lines are joined.

    Where a block has lines that begin with ``$``, the others are output.
    """
    found: list[str] = []
    for text in texts(page, *languages):
        lines = text.replace("\\\n", " ").splitlines()
        typed = [line[2:] for line in lines if line.startswith("$ ")]
        found += (re.sub(r"(^|\s+)#\s.*$", "", line).strip() for line in typed or lines)
    return [line for line in found if line]


def inline(page: Path) -> list[str]:
    """What stands between single backticks outside of blocks."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(one.split()) for one in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


class Walk:
    """Runs all ``sh`` blocks of a page, in order, in one bash.

    ``ini`` blocks become the files that the text names. The servers of the tests stand for those of
    the user. ``words`` are names of the page and what stands for each of them here.
    """

    def __init__(
        self, page: Path, dynamodb: Any, mongo: Any, folder: Path, words: Mapping[str, str]
    ) -> None:
        self.page = page
        self.folder = folder
        self.words = dict(words)
        self.port = free_port()
        self._address = mongo.uri
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SHAKE_")},
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "SHAKE_SOURCE_ENDPOINT_URL": dynamodb.url,
            "SHAKE_SOURCE_REGION": REGION,
            "SHAKE_HTTP_PROFILE": str(self.port),
            "SHAKE_INCR_MARGIN": "0.3",
            "PATH": f"{folder / 'programs'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def script(self, before: Sequence[tuple[str, str]] = ()) -> str:
        """The page as a script; ``before`` are pairs of a line's start and a line to put before."""
        parts = [_PRELUDE]
        for block in blocks(self.page):
            text = self.here(block.text)
            if block.language == "ini":
                parts.append(f"cat > {block.file} <<'END'\n{text}END\n")
            elif block.language == "sh":
                for start, line in before:
                    text = f"\n{text}".replace(f"\n{start}", f"\n{line}\n{start}")
                parts.append(text)
        return "".join(parts)

    def here(self, text: str) -> str:
        """A text of the page with the names and addresses of the test."""
        text = re.sub(r"mongodb://[^\s\"']*", lambda _: self._address, text)
        text = re.sub(r"\b9340\b", str(self.port), text)
        for word, name in self.words.items():
            text = re.sub(rf"\b{word}\b", name, text)
        return text

    def run(self, before: Sequence[tuple[str, str]] = (), seconds: float = 200) -> str:
        """Run the page to its end; return what it prints. Each command must exit with 0."""
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        shell = programs / "mongosh"
        shell.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.support.mongosh "$@"\n')
        shell.chmod(0o755)
        file, output = self.folder / "page.sh", self.folder / "page.log"
        file.write_text(self.script(before), encoding="utf-8")
        with output.open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-x", str(file)],
                cwd=self.folder,
                env=self.environment | {"PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(seconds)
            finally:
                _end(process)
        said = output.read_text(encoding="utf-8", errors="replace")
        assert status == 0, f"{self.page.name}: status {status}\n{said[-6000:]}"
        return said


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what the page has left running."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
