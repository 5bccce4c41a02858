"""Carries out, in one process, its part of the check of a table."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from shake.check import messages
from shake.check.documents import encoded
from shake.check.extras import Extras
from shake.check.fingerprint import Fingerprint, marks
from shake.check.following import Following
from shake.check.gate import Gate
from shake.check.items import Items
from shake.check.kept import Keeping
from shake.check.meaning import Item
from shake.check.pace import Pace
from shake.check.rooms import PageRooms
from shake.check.sides import Advanced, Listener, Repair, Sides
from shake.check.snapshot import CheckSnapshot, UnsavedFindings
from shake.check.source import SourceTable
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
from shake.schema import Table
from shake.source.client import Retry
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Credentials, Endpoint
from shake.targets.choice import open_target
from shake.targets.contract import NO_FENCE, Fence, Target
from shake.targets.mongodb.target import MongoTarget

log = logging.getLogger("shake.check")


@dataclass(frozen=True, slots=True)
class CheckConnections:
    """A process's own clients of source and target; ``stop`` ends what they do."""

    config: Config
    client: DynamoSource
    target: Target
    following: Following
    stop: threading.Event

    def close(self) -> None:
        """End what they do, and close them."""
        self.stop.set()
        self.following.close()
        self.target.close()
        self.client.close()


def connect(
    config: Config, endpoint: Endpoint, credentials: Callable[[], Credentials], *, live: bool
) -> CheckConnections:
    """The clients of this process; ``live``: a task may apply changes beside the check."""
    share_memory_among_threads()
    keep_large_blocks()
    stop = threading.Event()

    def retried(retry: Retry) -> None:
        level = (
            logging.WARNING if retry.tries == config.source_session_max_retries else logging.INFO
        )
        log.log(level, "%s: %s; retrying", retry.operation, retry.reason)

    client = DynamoSource(endpoint, credentials, on_retry=retried, stop=stop)
    following = Following(config, follows=live and config.sync_mode != "full")
    access = endpoint, credentials
    target = open_target(config, stop=stop, on_retry=log.info, access=access)
    return CheckConnections(config, client, target, following, stop)


def _stored(
    opened: CheckConnections, table: Table, seed: bytes, fence: Fence, rooms: PageRooms
) -> Stored:
    """What the target holds of a table."""
    config, namespace = opened.config, opened.config.namespace(table.name)
    if isinstance(opened.target, MongoTarget):
        return StoredTable(opened.target, namespace, table, config, seed, fence)
    # Imported here: no check of a MongoDB needs it.
    from shake.check.proxy import ItemTable
    from shake.targets.dynamodb.target import DynamoTarget

    assert isinstance(opened.target, DynamoTarget)
    own = opened.stop, rooms
    return ItemTable(opened.target, namespace, table, config, seed, *own)


class CheckPart:
    """The check of a table, or of those parts of it that fall to one of ``processes``.

    Each of them keeps to its share of the limits, so that all together keep to the whole. ``seed``,
    the same for all, is that of their digests.
    """

    def __init__(
        self,
        opened: CheckConnections,
        table: Table,
        listener: Listener,
        *,
        repair: Repair,
        seed: bytes,
        fence: Fence = NO_FENCE,
        processes: int,
    ) -> None:
        config = opened.config
        capacity = capacity_rate(config, table)
        rooms = self._rooms = PageRooms(processes)
        unsaved = self._unsaved = UnsavedFindings(listener)
        pace = Pace(
            config.qps_full / processes,
            capacity and capacity / processes,
            opened.stop,
            spent=lambda units: unsaved.advanced(Advanced(units=units)),
        )
        source = SourceTable(opened.client, table, config, pace, rooms)
        stored = _stored(opened, table, seed, fence, rooms)
        self.stop = opened.stop.set
        self.seed = seed
        kept = Keeping(config, table.name)
        self.sides = Sides(table, config, source, stored, self._unsaved, repair, kept)
        self._gate = gate = Gate()
        self.items = Items(self.sides, seed, opened.following, gate, opened.stop)
        self.extras = Extras(self.sides, seed, opened.following, gate, opened.stop)
        self._read: set[int] = set()
        self._named: set[int] = set()

    def do(self, work: messages.Work) -> messages.Result:
        """Do one piece of work. Thread-safe."""
        match work:
            case messages.Compare(segment, segments, start):
                self.items.all(segment, segments, start)
            case messages.Doubt(items, extras):
                with self._gate.step():
                    self.items.doubts.put(items)
                    self.extras.doubts.put(extras)
            case messages.ResolveDoubts():
                self._rooms.clear()
                release_free_memory()
                self.items.doubts.resolve()
                self.extras.doubts.resolve()
            case messages.ReadKeys(number, part):
                self.extras.read(part, lambda keys: self._merge(number, keys))
            case messages.LookFor(buckets):
                self.extras.marks = marks(buckets)
            case messages.NameExtras(number, part):
                self.extras.name(part)
                with self._gate.step():
                    self._named.add(number)
            case messages.ListKeys(part):
                return messages.Keys(tuple(map(encoded, self.extras.held(part))))
            case messages.CountItems(segment, segments):
                return messages.Counts(self.extras.wanted(segment, segments))
            case _:
                unhandled(work)
        return messages.Done()

    def _merge(self, number: int, keys: Fingerprint) -> None:
        """The keys of a part of the target, which has this number, are read."""
        with self._gate.step():
            self.extras.theirs.add_all(keys)
            self._read.add(number)

    def replay(self, keys: list[Item]) -> set[str]:
        """Store kept items that can be stored by now; see Items.replay."""
        with self._gate.step():
            return self.items.replay(keys)

    def compare_keys(self, keys: list[Item]) -> None:
        """Compare typed keys, whether or not there is an item or a document of them."""
        self.items.doubts.make_room()
        with self._gate.step():
            self.items.put(keys)
        if not self.sides.stored.keys.lossy:
            self.extras.doubts.make_room()
            with self._gate.step():
                self.extras.put(keys)

    def snapshot(self, durable: int) -> CheckSnapshot:
        """What is done so far; the first differences, so many, are durable. Raises Unfinished."""
        self._unsaved.saved(durable)
        with self._gate.still():
            return CheckSnapshot(
                self._unsaved.first,
                tuple(self._unsaved.differences),
                self._unsaved.done,
                tuple(self.items.positions.values()),
                tuple(self._read),
                tuple(self._named),
                self.items.found.brief(),
                self.extras.theirs.brief(),
                tuple(self.items.doubts.held()),
                tuple(self.extras.doubts.held()),
            )
