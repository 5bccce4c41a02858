"""One reader of a shard, by itself: what ends it, what it rides out, and what it says."""

from __future__ import annotations

import os
import queue
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shake import codec
from shake.farm import arena, messages
from shake.farm.arena import Arena
from shake.farm.channel import ChildChannel, SupervisorChannel
from shake.farm.reader import ApplyingReader, KeepingReader, OpenStream, Reader
from shake.schema import Attribute, Keys
from shake.source.client import Client, Credentials, Endpoint
from shake.stream.journal import Journal
from tests.support.faulty import error
from tests.support.streams import Clock, Simulator, Table
from tests.support.streams_faults import instead
from tests.support.wait import until

KEYS = Keys(Attribute("pk", "S"))


class Worker:
    """What a worker is to its readers, and the supervisor that hears of them: ``heard``."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator = simulator
        self.heard: list[Any] = []
        self.slots: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.readers: list[Reader] = []
        self._journal = Journal(folder)
        self._client = Client(
            Endpoint(simulator.url, "eu-west-1"),
            lambda: Credentials("AKIA", "secret"),
            on_retry=lambda retry: None,
            stop=self.stop,
            random=random.Random(1),
        )
        ours, theirs = socket.socketpair()
        self._channel, self._supervisor = ChildChannel(theirs), SupervisorChannel(ours)
        self._descriptor = arena.create(4)

    def read(self, table: Table, *, keep: bool = False, limit: int = 1000) -> Reader:
        """Begin to read the only shard of a table."""
        [shard] = table.stream.open()
        number = len(self.readers)
        lease = messages.ShardLease(
            *(number, number, shard.id, str(shard.start), ""), keep, "" if keep else None, 0
        )
        reader = (KeepingReader if keep else ApplyingReader)(
            lease,
            OpenStream(number, table.name, table.stream.arn, 0.0, codec.ChangeOptions(KEYS)),
            self._client,
            self._channel,
            self._journal,
            Arena(self._descriptor, writable=True),
            self.slots,
            stop=self.stop,
            pace=0.001,
            limit=limit,
            about=lambda table: None,
        )
        self.readers.append(reader)
        reader.start()
        return reader

    def said(self, kind: type[Any], lease: int = 0) -> list[Any]:
        """What has been heard of this kind, of a reader where that is told."""
        self.heard += self._supervisor.receive()[0]
        found = [one for one in self.heard if isinstance(one, kind)]
        return [one for one in found if getattr(one, "lease", lease) == lease]

    def close(self) -> None:
        self.stop.set()
        for reader in self.readers:
            reader.ended.set()
            self.slots.put(None)
            reader.join(10)
            assert not reader.is_alive()
        self._client.close()
        os.close(self._descriptor)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(clock=Clock(time.time)) as simulator:
        yield simulator


@pytest.fixture
def worker(simulator: Simulator, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(simulator, tmp_path)
    yield worker
    worker.close()


def put(table: Table, count: int) -> None:
    for number in range(count):
        table.put({"pk": {"S": f"k{number}"}})


@pytest.mark.parametrize(
    ("code", "answer"),
    [("AccessDeniedException", messages.Failed), ("TrimmedDataAccessException", messages.ShardGap)],
)
def test_while_a_new_shard_is_not_known_everywhere_another_refusal_is_heard(
    simulator: Simulator, worker: Worker, code: str, answer: type[Any]
) -> None:
    unknown = error("ResourceNotFoundException")
    simulator.faults.next("GetShardIterator", instead(unknown), instead(error(code)))
    worker.read(simulator.table("t"))
    [said] = until(lambda: worker.said(answer))
    assert code in str(said)
