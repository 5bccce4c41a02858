"""What one process does of the check of a table."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shake.check.extras import Extras, Key
from shake.check.fingerprint import Fingerprint
from shake.check.items import Items
from shake.check.keys import Identity
from shake.check.pace import Pace
from shake.check.sides import Listener, Repair, Sides
from shake.check.source import SourceTable
from shake.check.target import KeyRange, StoredTable
from shake.config import Config
from shake.plan.plan import capacity_rate
from shake.schema import Table
from shake.source.client import Client, Retry
from shake.source.endpoint import Credentials, Endpoint
from shake.targets.mongodb.target import MongoTarget

log = logging.getLogger("shake.check")


@dataclass(frozen=True, slots=True)
class Ends:
    """A process's own clients of source and target; ``stop`` ends what they do."""

    config: Config
    client: Client
    target: MongoTarget
    stop: threading.Event


@contextlib.contextmanager
def connected(
    config: Config, endpoint: Endpoint, credentials: Callable[[], Credentials]
) -> Iterator[Ends]:
    """Both ends of this process."""
    stop = threading.Event()

    def retried(retry: Retry) -> None:
        level = (
            logging.WARNING if retry.tries == config.source_session_max_retries else logging.INFO
        )
        log.log(level, "%s: %s; retrying", retry.operation, retry.reason)

    client = Client(endpoint, credentials, on_retry=retried, stop=stop, random=random.Random())
    target = MongoTarget(config, stop, log.info)
    with contextlib.closing(client), contextlib.closing(target):
        try:
            yield Ends(config, client, target, stop)
        finally:
            stop.set()


class Part:
    """The check of a table, or of those parts of it that fall to one of ``processes``.

    Each of them keeps to its share of the limits, so that all together keep to the whole.
    """

    def __init__(
        self, ends: Ends, table: Table, listener: Listener, *, repair: Repair, processes: int
    ) -> None:
        config = ends.config
        capacity = capacity_rate(config, table)
        pace = Pace(config.qps_full / processes, capacity and capacity / processes, ends.stop)
        source = SourceTable(ends.client, table, config, pace)
        stored = StoredTable(ends.target, config.place(table.name), table, config)
        self.sides = Sides(table, config, source, stored, listener, repair)
        self.items = Items(self.sides, ends.stop)
        self.extras = Extras(self.sides)

    def compare(self, segment: int, segments: int) -> None:
        """Compare every item of a segment."""
        self.items.all(segment, segments)

    def found(self) -> Fingerprint:
        """The keys of all documents that were found in the target."""
        return self.items.found

    def add(self, part: KeyRange) -> None:
        """Read the keys of a part of the target."""
        self.extras.add(part)

    def theirs(self) -> Fingerprint:
        """The keys of the target that were read."""
        return self.extras.theirs

    def look_for(self, buckets: set[int]) -> None:
        """Have the next methods look at keys in these buckets."""
        self.extras.buckets = buckets

    def name(self, part: KeyRange) -> None:
        """Name the documents of a part of the target that no item has."""
        self.extras.name(part)

    def held(self, part: KeyRange) -> list[Key]:
        """The keys of a part of the target."""
        return self.extras.held(part)

    def wanted(self, segment: int, segments: int) -> Counter[Identity]:
        """How often each key is in a segment of the source."""
        return self.extras.wanted(segment, segments)
