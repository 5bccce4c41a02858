"""The benchmarks measure what they say: the servers hold to their protocols, every run is whole."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener
from xml.etree import ElementTree

import pytest
from pymongo import DeleteOne, MongoClient, ReplaceOne

from benchmarks import codec as codecs
from benchmarks import (
    full,
    idle,
    journal,
    lag,
    latency,
    queue,
    real,
    roles,
    size,
    tail,
    viewer,
    writers,
)
from benchmarks.flamegraph import flame_graph
from benchmarks.flames import running_stacks
from benchmarks.measure import ROOT, Failed, Usage, measure, typical
from benchmarks.pages import SHAPES, page_items
from benchmarks.plot import draw
from benchmarks.programs import Bench, bench
from benchmarks.records import TRAFFIC
from benchmarks.report import Options, Report, Value
from shake import codec
from shake.schema import Attribute, Keys
from tests.support.tables import connect

pytestmark = pytest.mark.slow

KEYS = Keys(Attribute("pk", "S"), Attribute("sk", "N"))


def figure(row: dict[str, Value], column: str) -> float:
    """A cell that holds a number."""
    value = row[column]
    assert not isinstance(value, str)
    return value


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench("--skew", "0.5") as place:
        yield place


@pytest.mark.parametrize("shape", SHAPES)
def test_a_virtual_table_gives_every_item_once_over_all_segments(place: Bench, shape: str) -> None:
    client = connect(place.source)
    described = client.describe_table(TableName=f"{shape}-701")["Table"]
    assert described["ItemCount"] == 701

    counts = [_count(client, f"{shape}-701", segment, 7) for segment in range(7)]

    assert sum(counts) == 701
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
    assert _count(connect(place.source), "large-901", 0, 1) == 901


def test_the_sink_counts_what_the_driver_inserts(place: Bench) -> None:
    place.counts()
    with MongoClient[dict[str, Any]](place.target) as client:
        client.db.table.insert_many([{"n": n} for n in range(2500)])
        client.db.table.insert_one({"n": 0})
    counts = place.counts()

    assert counts["documents"] == 2501
    assert counts["commands"] == 2


def test_the_sink_counts_changes_too(place: Bench) -> None:
    place.counts()
    with MongoClient[dict[str, Any]](place.target) as client:
        changes = [ReplaceOne({"_id": n}, {"n": n}, upsert=True) for n in range(1500)]
        result = client.db.table.bulk_write([*changes, DeleteOne({"_id": 0})], ordered=False)
    counts = place.counts()

    assert (counts["updates"], counts["deletes"], counts["documents"]) == (1500, 1, 0)
    assert (result.matched_count, result.deleted_count) == (1500, 1)


def test_a_stream_gives_every_change_once_over_all_shards(place: Bench) -> None:
    streams = connect(place.source, "dynamodbstreams")
    table = connect(place.source).describe_table(TableName="mixed-binary-5000")["Table"]
    arn = table["LatestStreamArn"]
    shards = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    closed = [shard for shard in shards if "EndingSequenceNumber" in shard["SequenceNumberRange"]]
    records = {shard["ShardId"]: _records(streams, arn, shard["ShardId"]) for shard in shards}

    assert len(closed) == len(shards) / 2 == 8
    for shard in closed:
        read = [int(record["dynamodb"]["SequenceNumber"]) for record in records[shard["ShardId"]]]
        limits = shard["SequenceNumberRange"]
        assert read == sorted(set(read))
        assert read[0] == int(limits["StartingSequenceNumber"])
        assert read[-1] == int(limits["EndingSequenceNumber"])
    changes = [record for each in records.values() for record in each]
    assert len({record["dynamodb"]["Keys"]["pk"]["S"] for record in changes}) == 5000
    assert [record["eventName"] for record in changes[:4]] == [
        *("INSERT", "MODIFY", "REMOVE", "INSERT")
    ]


def test_a_shard_goes_on_behind_any_sequence_number(place: Bench) -> None:
    streams = connect(place.source, "dynamodbstreams")
    [stream] = streams.list_streams(TableName="modify-binary-4000")["Streams"]
    arn = stream["StreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][3]["ShardId"]
    numbers = [r["dynamodb"]["SequenceNumber"] for r in _records(streams, arn, shard)]

    for at in (0, 300, len(numbers) - 2):
        after = _records(streams, arn, shard, "AFTER_SEQUENCE_NUMBER", numbers[at])
        assert after[0]["dynamodb"]["SequenceNumber"] == numbers[at + 1]
        assert len(after) == len(numbers) - at - 1
    assert not _records(streams, arn, shard, "LATEST")


def _records(streams: Any, arn: str, shard: str, start: str = "", number: str = "") -> list[Any]:
    """The records of a shard, to its end or to where an open one has no more."""
    given = {"SequenceNumber": number} if number else {}
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard, ShardIteratorType=start or "TRIM_HORIZON", **given
    )["ShardIterator"]
    records: list[Any] = []
    while iterator:
        answer = streams.get_records(ShardIterator=iterator)
        if not answer["Records"]:
            break
        records += answer["Records"]
        iterator = answer.get("NextShardIterator")
    return records


def test_shake_and_the_script_apply_every_change(place: Bench) -> None:
    for follow in (place.shake_following, place.follower):
        usage = follow("mixed-binary-900", 1)  # fails where one is missing at the sink

        assert usage.cpu > 0


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


def test_what_a_run_took_beyond_another_is_a_run_too() -> None:
    start = Usage(1.0, 2.0, 100, {"worker": 0.5}, {"source": 0.25})
    whole = Usage(3.0, 7.0, 150, {"worker": 2.0, "writer": 1.0}, {"source": 0.5})

    beyond = whole - start

    assert beyond == Usage(2.0, 5.0, 150, {"worker": 1.5, "writer": 1.0}, {"source": 0.25})
    assert typical([start, whole, whole]) == whole


def test_a_full_copy_is_measured_beside_the_script() -> None:
    report = full.run(Options(items=5000, shapes=("binary",), workers=(1,), rounds=1))

    assert [row["program"] for row in report.rows] == ["shake", "script"]
    assert report.findings[0].startswith("binary, 1 workers: ")


def test_no_key_is_replayed_twice_where_that_is_asked_for() -> None:
    with bench("--unique") as place:
        pages = connect(place.source).get_paginator("scan").paginate(TableName="medium-5000")
        keys = [item["pk"]["S"] for page in pages for item in page["Items"]]
    assert len(keys) == len(set(keys)) == 5000


def test_a_copy_into_a_real_server_is_measured_beside_the_script() -> None:
    report = real.run(Options(items=5000, workers=(1,), rounds=1))

    assert [(row["program"], row["items"]) for row in report.rows] == [
        *(("shake", 5000), ("script", 500))
    ]
    assert all(figure(row, "mongod index us") > 0 for row in report.rows)
    assert report.findings[0].startswith("shake: ")


def test_numbers_of_writers_are_compared_at_each_target() -> None:
    report = writers.run(Options(items=6000, workers=(1,), writers=(1, 2), rounds=1))

    assert [(row["target"], row["writers"]) for row in report.rows] == [
        (target, number) for target in ("slow sink", "sink", "mongod") for number in (1, 2)
    ]
    assert all(figure(row, "peak MiB") > 10 for row in report.rows)  # the rest can be mere noise


def test_tables_of_two_sizes_are_compared() -> None:
    report = size.run(Options(items=40, shapes=("binary",), workers=(1,), rounds=1))

    assert [row["items"] for row in report.rows] == [40, 4000]
    assert all(figure(row, "peak MiB") > 10 for row in report.rows)
    assert report.findings[0].startswith("CPU per item: 4,000 items against 40: ")


def test_each_role_is_measured() -> None:
    report = roles.run(Options(items=20_000, shapes=("binary",), workers=(1,), rounds=1))

    assert [row["role"] for row in report.rows[1:]] == ["supervisor", "worker", "writer"]
    for row in report.rows[1:]:  # not above zero: what a small table takes may be less than noise
        per_page = figure(row, "us/document") * page_items("binary") / 1e3
        assert row["ms/page"] == pytest.approx(per_page)


def test_every_page_goes_through_the_queue_alone(place: Bench) -> None:
    for slots, touch in queue.WAYS.values():
        usage = queue.through(place, 200, 100_000, slots, touch=touch)  # ends when all are written

        assert usage.cpu > 0


def test_single_writes_arrive_and_their_lag_is_told() -> None:
    report = lag.run(Options(items=2, workers=(1,)))

    [row] = report.rows
    assert 0 < figure(row, "median ms") <= figure(row, "longest ms")


def test_pages_come_no_faster_than_the_wire_lets_them(tmp_path: Path) -> None:
    report = latency.run(Options(items=400, shapes=("binary",), workers=(1,)))

    assert all(0 < figure(row, "of the wire %") <= 100 for row in report.rows)
    draw(report.charts["scanners"], report.title, tmp_path / "charts/scanners.png")
    assert (tmp_path / "charts/scanners.png").read_bytes().startswith(b"\x89PNG")


def test_a_journal_costs_little_beside_what_it_holds() -> None:
    rows = journal.run(Options(items=2000, rounds=1)).rows
    assert [row["changes"] for row in rows] == list(TRAFFIC)
    assert all(0 < figure(row, "bytes on disk per byte of JSON") < 1 for row in rows)


def test_codecs_are_compared() -> None:
    rows = codecs.run(Options(shapes=("binary",), rounds=1)).rows

    assert len(rows) == 4  # one of items, three of changes
    ways = ("reference", "orjson alone", "boto3")
    assert all(figure(row, way) > 0 for row in rows for way in ways)


def test_a_source_that_speaks_tls_is_read_by_any_sdk_and_by_shake() -> None:
    with bench("--bandwidth", "50e6", tls=True) as place:
        client = connect(place.source, verify=place.environment["AWS_CA_BUNDLE"])
        assert _count(client, "binary-1000", 0, 1) == 1000
        usage = place.shake("binary-6000", 1)
        assert place.reading("binary-1000")["scans"] > 0

    # And every process counts in its role, to its end.
    assert usage.roles.keys() == {"supervisor", "worker", "writer"}
    assert sum(usage.roles.values()) == pytest.approx(usage.cpu, abs=0.01)


def test_the_bandwidth_of_the_source_is_what_was_asked_for() -> None:
    with bench("--bandwidth", "4e6") as place:
        client = connect(place.source)
        began = time.monotonic()
        answer = client.scan(TableName="binary-10000", Segment=0, TotalSegments=1)
        took = time.monotonic() - began

    size = int(answer["ResponseMetadata"]["HTTPHeaders"]["content-length"])
    assert took >= 0.95 * size / 4e6


def test_a_flame_graph_shows_what_ran() -> None:
    stacks = running_stacks(
        "thread 1;main;0x7f00 (libc.so.6);work 3\n"
        "thread 1;main;work;inner <b> 2\n"
        "thread 2;take;PyThread_acquire_lock_timed (libpython.so);sem 50\n"
        "thread 3;ChildChannel.receive (channel.py:1);recv (libc.so.6) 50\n"
    )

    graph = flame_graph(stacks, "title")

    assert stacks == {("thread 1", "main", "work"): 3, ("thread 1", "main", "work", "inner <b>"): 2}
    ElementTree.fromstring(graph)
    assert "<title>work: 5 samples, 100.00 %</title>" in graph
    assert "inner &lt;b&gt;: 2 samples, 40.00 %" in graph


def test_the_tail_is_where_scanners_run_out_of_segments() -> None:
    assert tail.tail_begins([(0.0, 4.0), (0.0, 3.0), (3.0, 10.0)], scanners=2) == 4.0
    assert tail.tail_begins([(0.0, 5.0), (0.0, 5.0)], scanners=2) == 5.0


@pytest.mark.parametrize("waits_for", idle.WAITS)
def test_an_idle_farm_is_measured_by_process(waits_for: str) -> None:
    options = Options(items=20_000, workers=(1,), seconds=0.5)

    row = idle.idle(waits_for, options)

    assert {"supervisor", "worker 0", "writer", "all"} <= row.keys()


def test_a_viewer_of_the_status_page_is_measured() -> None:
    assert viewer.viewing(tables=3, requests=20, seconds=0.2).keys() == {"view", "charts"}


def test_the_figures_are_for_programs_too(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "tail", "--items", "50", "--json", str(file)]

    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    figures = json.loads(file.read_text())
    [row] = figures["reports"]["tail"]["rows"]
    assert row["segments"] == row["scanners"] == 1
    assert row["scanners busy %"] == 100.0


def test_a_report_lines_up() -> None:
    report = Report("title", [{"a": 1000, "b": 0.5}, {"a": 1, "b": 22.0}], ["so it is"])

    assert str(report) == "== title\n    a      b\n1,000   0.50\n    1  22.00\n-> so it is"
