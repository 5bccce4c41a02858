"""The benchmarks measure what they say: the servers hold to their protocols, every run is whole."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from pymongo import MongoClient

from benchmarks import full, idle, memory, tail
from benchmarks.measure import Failed, measure
from benchmarks.pages import SHAPES
from benchmarks.programs import Bench, bench
from benchmarks.report import Options, Report
from benchmarks.serving import ROOT
from shake import codec
from shake.schema import Attribute, Keys
from tests.support.tables import connect

KEYS = Keys(Attribute("pk", "S"), Attribute("sk", "N"))


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench("--skew", "0.5") as place:
        yield place


@pytest.mark.parametrize("shape", SHAPES)
def test_a_virtual_table_gives_every_item_once_over_all_segments(place: Bench, shape: str) -> None:
    client = connect(place.source)
    described = client.describe_table(TableName=f"{shape}-3001")["Table"]
    assert described["ItemCount"] == 3001

    counts = [_count(client, f"{shape}-3001", segment, 7) for segment in range(7)]

    assert sum(counts) == 3001
    assert len(set(counts)) > 1  # uneven, as asked for


def _count(client: Any, table: str, segment: int, total: int) -> int:
    pages = client.get_paginator("scan").paginate(
        TableName=table, Segment=segment, TotalSegments=total
    )
    return sum(page["Count"] for page in pages)


def test_a_replayed_page_is_sound_to_its_last_byte(place: Bench) -> None:
    request = Request(
        place.source,
        b'{"TableName":"medium-5000","Segment":0,"TotalSegments":1,'
        b'"ReturnConsumedCapacity":"TOTAL"}',
        {"X-Amz-Target": "DynamoDB_20120810.Scan"},
    )
    with build_opener(ProxyHandler({})).open(request) as answer:
        body = answer.read()
        assert answer.headers["x-amz-crc32"] == str(zlib.crc32(body))
    page = codec.scan_page(body, codec.Options(KEYS))
    length, documents = page.fill(memoryview(bytearray(16 << 20)), b"\0" * 7, 0)

    assert documents == page.count == page.scanned > 1000
    assert length > 900_000
    assert 127 < page.capacity <= 128
    assert page.last_key is not None


def test_a_segment_goes_on_where_its_last_page_ended(place: Bench) -> None:
    assert _count(connect(place.source), "medium-9001", 0, 1) == 9001


def test_the_sink_counts_what_the_driver_inserts(place: Bench) -> None:
    place.counts()
    with MongoClient[dict[str, Any]](place.target) as client:
        client.db.table.insert_many([{"n": n} for n in range(2500)])
        client.db.table.insert_one({"n": 0})
    counts = place.counts()

    assert counts["documents"] == 2501
    assert counts["inserts"] == 2


def test_a_program_is_measured_with_what_it_starts(tmp_path: Path) -> None:
    spin = "import time\nwhile time.process_time() < 0.4: pass"
    block = "x = bytearray(b'1') * (100 << 20)\nimport time; time.sleep(1)"
    outer = (
        "import subprocess, sys\nfor c in sys.argv[1:]: subprocess.run([sys.executable, '-c', c])"
    )

    usage = measure([sys.executable, "-c", outer, spin, block], tmp_path / "log")

    assert usage.cpu > 0.4
    assert 100 << 20 < usage.peak < 200 << 20


def test_a_program_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no such thing"):
        measure([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path / "log")


def test_a_full_copy_is_measured_beside_the_script() -> None:
    report = full.run(Options(items=5000, workers=1, rounds=1))

    assert [row["program"] for row in report.rows] == ["shake", "script"]
    assert all(row["CPU s"] > 0 for row in report.rows)


def test_memory_is_measured_for_growing_tables() -> None:
    report = memory.run(Options(items=100, workers=1))

    assert [row["items"] for row in report.rows[:3]] == [100, 300, 1000]
    assert all(row["peak MiB"] > 10 for row in report.rows)


def test_the_tail_is_where_lanes_run_out_of_segments() -> None:
    assert tail.tail_begins([(0.0, 4.0), (0.0, 3.0), (3.0, 10.0)], lanes=2) == 4.0
    assert tail.tail_begins([(0.0, 5.0), (0.0, 5.0)], lanes=2) == 5.0

    row = tail.run(Options(items=500, workers=1)).rows[0]
    assert row["segments"] == row["lanes"] == 1
    assert row["lanes busy %"] == 100.0


def test_an_idle_farm_is_measured_by_process() -> None:
    report = idle.run(Options(items=20_000, workers=1, seconds=0.5))

    assert [row["waits for"] for row in report.rows] == [*idle.WAITS]
    assert all("worker 0" in row and "writer" in row for row in report.rows)


def test_the_figures_are_for_programs_too(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "tail", "--items", "50", "--json", str(file)]

    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    figures = json.loads(file.read_text())
    assert figures["reports"]["tail"]["rows"][0]["segments"] == 1


def test_a_report_lines_up() -> None:
    report = Report("title", [{"a": 1000, "b": 0.5}, {"a": 1, "b": 22.0}], ["so it is"])

    assert str(report) == "== title\n    a      b\n1,000   0.50\n    1  22.00\n-> so it is"
