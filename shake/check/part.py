"""Carries out, in one process, its part of the check of a table."""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shake.check import messages
from shake.check.documents import encoded
from shake.check.extras import Extras
from shake.check.fingerprint import marks
from shake.check.following import Following
from shake.check.gate import Gate
from shake.check.items import Items
from shake.check.keys import typed_identity
from shake.check.meaning import Item
from shake.check.rooms import PageRooms
from shake.check.sides import Advanced, Keeping, Listener, Repair, Sides
from shake.check.source import Pace, SourceTable
from shake.check.state import CheckSnapshot, UnsavedFindings
from shake.check.stored import Stored
from shake.check.target import StoredTable
from shake.config import Config
from shake.plan.plan import capacity_rate
from shake.process.allocator import (
    keep_large_blocks,
    release_free_memory,
    share_memory_among_threads,
)
from shake.process.messages import unhandled
from shake.source.client import Retry
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Credentials, Endpoint
from shake.targets.choice import open_target
from shake.targets.contract import Target
from shake.targets.mongodb.target import MongoTarget

log = logging.getLogger("shake.check")


@dataclass(frozen=True, slots=True)
class CheckConnections:
    """A process's own clients of source and target; ``stop`` ends what they do.

    ``repair``: how much of the target they are used to repair.
    """

    config: Config
    repair: Repair
    client: DynamoSource
    target: Target
    following: Following
    kept: Keeping
    stop: threading.Event

    def close(self) -> None:
        """End what they do, and close them."""
        self.stop.set()
        self.following.close()
        self.kept.close()
        self.target.close()
        self.client.close()


def connect(
    config: Config, endpoint: Endpoint, credentials: Callable[[], Credentials], repair: Repair
) -> CheckConnections:
    """The clients of this process. No task applies changes beside a repair."""
    share_memory_among_threads()
    keep_large_blocks()
    stop = threading.Event()

    def retried(retry: Retry) -> None:
        level = (
            logging.WARNING if retry.tries == config.source_session_max_retries else logging.INFO
        )
        log.log(level, "%s: %s; retrying", retry.operation, retry.reason)

    client = DynamoSource(endpoint, credentials, on_retry=retried, stop=stop)
    following = Following(config, follows=not repair and config.sync_mode != "full")
    access = endpoint, credentials
    target = open_target(config, stop=stop, on_retry=log.info, access=access)
    return CheckConnections(config, repair, client, target, following, Keeping(config), stop)


def _stored(opened: CheckConnections, begun: messages.Open, rooms: PageRooms) -> Stored:
    """What the target holds of a table."""
    table, seed, fence = begun.table, begun.seed, begun.fence
    config, namespace = opened.config, opened.config.namespace(table.name)
    if isinstance(opened.target, MongoTarget):
        return StoredTable(opened.target, namespace, table, config, seed, fence)
    # Imported here: no check of a MongoDB needs it.
    from shake.check.dynamodb_target import ItemTable
    from shake.targets.dynamodb.target import DynamoTarget

    assert isinstance(opened.target, DynamoTarget)
    return ItemTable(opened.target, namespace, table, config, seed, opened.stop, rooms)


class CheckPart:
    """The check of a table, or of those parts of it that fall to one of several processes.

    Each of them keeps to its share of the limits, so that all together keep to the whole.
    """

    def __init__(self, opened: CheckConnections, begun: messages.Open, listener: Listener) -> None:
        gc.collect()  # that of the table before is a cycle, and has megabytes of sums
        config, table, processes = opened.config, begun.table, begun.processes
        self.begun = begun
        opened.following.learn(ran=begun.task_ran)
        opened.kept.begin(table.name, known=begun.checkpoints_known)
        self.stop = opened.stop
        capacity = capacity_rate(config, table)
        rooms = self._rooms = PageRooms(processes)
        unsaved = self._unsaved = UnsavedFindings(listener)
        pace = Pace(
            config.qps_full / processes,
            capacity and capacity / processes,
            self.stop,
            spent=lambda units: unsaved.advanced(Advanced(units=units)),
        )
        self._gate = Gate()
        self.sides = Sides(
            table,
            config,
            SourceTable(opened.client, table, config, pace, rooms),
            _stored(opened, begun, rooms),
            unsaved,
            opened.repair,
            opened.kept,
            opened.following,
            self._gate,
            self.stop,
        )
        self.items = Items(self.sides, begun.seed)
        self.extras = Extras(self.sides, begun.seed)

    def do(self, work: messages.Work) -> messages.Result:
        """Do one piece of work. Thread-safe."""
        match work:
            case messages.Compare(segment, segments, start):
                self.items.all(segment, segments, start)
            case messages.Doubt(items, extras):
                with self._gate.step():
                    self.items.put(map(json.loads, items))
                    self.extras.doubts.put(extras)
            case messages.ResolveDoubts():
                self._rooms.clear()
                release_free_memory()
                self.items.doubts.resolve()
                self.extras.doubts.resolve()
            case messages.ReadKeys(number, part):
                self.extras.read(number, part)
            case messages.LookFor(buckets):
                self.extras.marks = marks(buckets)
            case messages.NameExtras(number, part):
                self.extras.name(number, part)
            case messages.ListKeys(part):
                return messages.Keys(tuple(map(encoded, self.extras.held(part))))
            case messages.CountItems(segment, segments):
                return messages.Counts(self.extras.wanted(segment, segments))
            case _:
                unhandled(work)
        return messages.Done()

    def compare_keys(self, keys: Iterable[Item]) -> None:
        """Compare typed keys, each once, whether or not there is an item or a document of them."""
        some = list({typed_identity(key): key for key in keys}.values())
        direction: Items | Extras
        for direction in (self.items, self.extras):
            direction.doubts.make_room()
            with self._gate.step():
                direction.put(some)
        self._unsaved.advanced(Advanced(compared=len(some), scanned=len(some)))

    def snapshot(self, durable: int) -> CheckSnapshot:
        """What is done so far; the first differences, so many, are durable. Raises Unfinished."""
        self._unsaved.saved(durable)
        with self._gate.still():
            return CheckSnapshot(
                self._unsaved.first,
                tuple(self._unsaved.differences),
                self._unsaved.done,
                tuple(self.items.positions.values()),
                tuple(self.extras.read_parts),
                tuple(self.extras.named_parts),
                self.items.found.sums(),
                self.extras.theirs.sums(),
                tuple(self.items.doubts.held()),
                tuple(self.extras.doubts.held()),
            )
