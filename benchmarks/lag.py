"""Measures the time from a write at the source until the target has it, at a low rate of writes."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from sys import executable
from typing import Any

from pymongo import MongoClient

from benchmarks.measure import ROOT, Failed, running
from benchmarks.report import Options, Report
from benchmarks.script import connect
from shake.demo.mongo import mongo_server
from shake.demo.servers import DynamoDBLocal

_WRITES = 100
#: Most seconds between two writes: random, so that they meet the reader at any point of its wait.
_PAUSE = 0.5
#: Seconds between two queries of the target, and until the write must have arrived.
_LOOK, _PATIENCE = 0.002, 60.0
_TABLE = "things"


def run(options: Options) -> Report:
    """Follow a table between the embedded servers, write, and wait for each write."""
    with (
        tempfile.TemporaryDirectory(prefix="shake-bench-") as folder,
        DynamoDBLocal() as source,
        mongo_server() as target,
        MongoClient[dict[str, Any]](target.uri) as mongo,
    ):
        client = connect("dynamodb", source.url)
        client.create_table(
            TableName=_TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
        settings = {
            "id": "bench",
            "pid_path": folder,
            "http_profile": -1,
            "source.region": "us-east-1",
            "source.endpoint_url": source.url,
            "source.access_key_id": "bench",
            "source.secret_access_key": "bench",
            "target.address": target.uri,
        }
        command = [executable, str(ROOT / "bin/shake-supervisor"), "--workers", str(options.farm)]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        log = Path(folder, "log")
        with running(command, log):
            _until(lambda: "following its changes" in log.read_text(), log)
            waits = _waits(client, mongo["bench"][_TABLE], options.items or _WRITES, log)
    report = Report(f"lag: {len(waits)} single writes, embedded servers, {options.farm} workers")
    row = {"median": median(waits), "90 %": quantiles(waits, n=10)[-1], "longest": max(waits)}
    report.rows.append({f"{name} ms": 1e3 * seconds for name, seconds in row.items()})
    report.findings.append(f"half of the writes arrive within {1e3 * row['median']:.0f} ms")
    return report


def _waits(client: Any, collection: Any, writes: int, log: Path) -> list[float]:
    """Seconds from each write's acknowledgement until a query of the target finds it."""
    chance, waits = random.Random(1), []
    for number in range(writes):
        time.sleep(chance.uniform(0, _PAUSE))
        client.put_item(TableName=_TABLE, Item={"pk": {"S": f"write {number}"}})
        written = time.monotonic()
        _until(lambda number=number: collection.find_one({"pk": f"write {number}"}), log)
        waits.append(time.monotonic() - written)
    return waits


def _until(seen: Any, log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while not seen():
        if time.monotonic() > end:
            raise Failed(f"nothing arrived in {_PATIENCE:g} s:\n{log.read_text()[-2000:]}")
        time.sleep(_LOOK)
