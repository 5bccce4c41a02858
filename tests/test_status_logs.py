"""The log: levels, one line a record, nothing secret, nothing lost."""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from shake.config.secrets import Redactor
from shake.errors import UsageError
from shake.status.logs import logging_to
from tests.support.wait import until

shake = logging.getLogger("shake.farm")
NOTHING = Redactor([])


def test_a_record_is_one_line_with_its_utc_time() -> None:
    lines: list[str] = []
    with logging_to(None, "info", True, NOTHING, lines.append):
        record = shake.makeRecord(shake.name, logging.WARNING, "f", 1, "late\nby %d s", (3,), None)
        record.created, record.msecs = 1_562_000_000.25, 250.0
        shake.handle(record)
    assert lines == ["2019-07-01T16:53:20.250Z WARN  shake.farm: late\\nby 3 s"]


def test_what_steers_a_terminal_is_escaped() -> None:
    lines: list[str] = []
    with logging_to(None, "info", True, NOTHING, lines.append):
        shake.info("\x1b[2Jgone\rover\x9b")
    assert lines[0].endswith("\\x1b[2Jgone\\x0dover\\x9b")


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("none", ""),
        ("error", "e"),
        ("warn", "we"),
        ("warning", "we"),
        ("info", "iwe"),
        ("debug", "diwe"),
    ],
)
def test_the_level_rules_what_is_heard(level: str, heard: str) -> None:
    lines: list[str] = []
    with logging_to(None, level, True, NOTHING, lines.append):
        shake.debug("d")
        shake.info("i")
        shake.warning("w")
        shake.error("e")
    assert "".join(line[-1] for line in lines) == heard


def test_libraries_are_heard_from_warnings_on_even_at_debug() -> None:
    lines: list[str] = []
    library = logging.getLogger("urllib3.pool")
    with logging_to(None, "debug", True, NOTHING, lines.append):
        library.info("a signature")
        library.warning("a retry")
    assert [line.endswith("urllib3.pool: a retry") for line in lines] == [True]


def test_no_secret_reaches_the_log_in_text_or_trace() -> None:
    lines: list[str] = []
    with logging_to(None, "debug", True, Redactor(["pass\nword"]), lines.append):
        try:
            raise ValueError("no pass\nword here")
        except ValueError:
            shake.exception("at mongodb://me:pass%%0Aword@host, %s", "pass\nword")
    (text,) = lines
    assert "Traceback" in text
    assert "word" not in text.replace("password", "")
    assert "mongodb://me:***@host, ***" in text


def test_a_stack_trace_appears_only_at_debug() -> None:
    lines: list[str] = []
    with logging_to(None, "info", True, NOTHING, lines.append):
        try:
            raise ValueError("inside")
        except ValueError:
            shake.exception("outside")
    assert "inside" not in lines[0]
    assert len(lines) == 1


def test_a_buffered_line_reaches_the_file_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with logging_to(str(file), "info", True, NOTHING, print, hold=0.02):
        shake.info("quiet after this")
        until(lambda: "quiet after this\n" in file.read_text())


def test_buffered_lines_wait_for_a_warning_or_the_end(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with logging_to(str(file), "info", True, NOTHING, print, hold=3600):
        shake.info("one")
        assert file.read_text() == ""
        shake.warning("two")
        until(lambda: re.findall(r": (\w+)\n", file.read_text()) == ["one", "two"])
        shake.info("three")
    assert file.read_text().endswith("three\n")


def test_without_buffer_no_line_waits_for_the_next(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    with logging_to(str(file), "info", False, NOTHING, print):
        shake.info("one")
        until(lambda: re.fullmatch(r"before\n.*: one\n", file.read_text()))


@pytest.mark.parametrize("created", [True, False], ids=["create", "nocreate"])
def test_a_log_file_that_was_rotated_is_opened_again(tmp_path: Path, created: bool) -> None:
    file, moved = tmp_path / "log", tmp_path / "log.1"
    with logging_to(str(file), "info", False, NOTHING, print):
        shake.info("one")
        until(lambda: ": one\n" in file.read_text())
        file.rename(moved)
        if created:
            file.touch(0o600)
        shake.info("two")
        until(lambda: file.exists() and ": two\n" in file.read_text())
    assert re.findall(r": (\w+)\n", moved.read_text()) == ["one"]


def test_a_log_whose_folder_was_moved_away_goes_on_in_the_old_file(tmp_path: Path) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    with logging_to(str(folder / "log"), "info", False, NOTHING, print):
        folder.rename(moved)
        shake.info("one")
        until(lambda: ": one\n" in (moved / "log").read_text())
        folder.mkdir()
        shake.info("two")
    assert (folder / "log").read_text().endswith(": two\n")


def test_a_log_file_that_cannot_be_opened_is_refused_with_a_way_out(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "log"
    with (
        pytest.raises(UsageError, match=r"log\.file: .*nowhere/log cannot be opened"),
        logging_to(str(missing), "info", True, NOTHING, print),
    ):
        pass


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logging_to("/dev/full", "info", False, NOTHING, print):
        shake.error("one")
        shake.error("two")
    err = capsys.readouterr().err
    assert err.count("the log /dev/full cannot be written: [Errno 28]") == 1
    assert err.count("\n") == 1


def test_the_loggers_are_as_before_at_the_end() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("shake").level)
    with logging_to(None, "debug", True, NOTHING, print):
        assert root.handlers != before[0]
    assert (list(root.handlers), root.level, logging.getLogger("shake").level) == before


def test_a_log_that_is_not_read_drops_lines_and_tells_how_many(tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    seen = bytearray()

    def read() -> list[bytes]:
        with suppress(BlockingIOError):
            seen.extend(os.read(reader, 1 << 20))
        return bytes(seen).splitlines()

    with closing(open(reader, "rb")), logging_to(str(fifo), "info", False, NOTHING, print):
        for number in range(20_000):
            shake.info("line %d", number)
        until(lambda: read() and b"line 9000" in seen)
        shake.info("the last")
        until(lambda: read()[-1].endswith(b": the last"))
    *lines, _ = seen.splitlines()
    told = " lines of the log were dropped here: it was not written fast enough)"
    notices = [line.decode() for line in lines if line.startswith(b"(")]
    numbers = [int(line.rsplit(b" ", 1)[1]) for line in lines if not line.startswith(b"(")]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 20_000
    assert all(notice.endswith(told) for notice in notices)
    dropped = sum(int(notice[1:].removesuffix(told)) for notice in notices)
    assert len(numbers) + dropped == 20_000


def test_a_log_file_that_does_not_open_holds_up_neither_the_start_nor_the_end(
    tmp_path: Path,
) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    began = time.monotonic()
    with logging_to(str(fifo), "info", False, NOTHING, print):
        shake.info("one")
    assert time.monotonic() - began < 10
    assert fifo.open("rb").read().endswith(b": one\n")  # late, and not lost
