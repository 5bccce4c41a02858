"""Reads a few items of each table, to learn how large they become in the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.pool import ThreadPool

from shake import codec
from shake.codec import bad_items
from shake.codec.objectid import segment_prefix
from shake.config import Config
from shake.errors import KEEP_ADVICE, ItemError, SourceError
from shake.plan.plan import TablePlan
from shake.process.arena import SLOT_BYTES
from shake.source.client import Unreachable
from shake.source.contract import Source
from shake.source.item_size import item_bytes
from shake.source.scan import ScanPlan
from shake.status.figures import many

#: A sample is a page of so many items from each of so many segments. It ends early once it has
#: consumed so many units, which one page of large items does: 1 MB.
SEGMENTS, ITEMS, UNITS = 4, 50, 128.0
#: Tables that are sampled at the same time, and tries of each request.
_THREADS, _MAX_TRIES = 4, 5


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read of a table, and what became of it.

    ``scanned`` items were read, and a scan filter left ``items`` of these, of ``item_bytes`` as
    DynamoDB counts them. Their documents have ``document_bytes``. ``problem`` says why the rest
    of the sample could not be read or stored.
    """

    scanned: int = 0
    items: int = 0
    item_bytes: int = 0
    document_bytes: int = 0
    units: float = 0.0
    problem: str = ""

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            self.scanned + other.scanned,
            self.items + other.items,
            self.item_bytes + other.item_bytes,
            self.document_bytes + other.document_bytes,
            self.units + other.units,
            self.problem or other.problem,
        )

    def target_bytes(self, table_bytes: int) -> int | None:
        """The documents of a table of this size; None where the sample does not show that."""
        if not self.scanned:
            return None
        if not self.items:
            return 0
        kept = self.items / self.scanned
        return round(table_bytes * kept * self.document_bytes / self.item_bytes)


def take_samples(
    config: Config, source: Source, plans: Sequence[TablePlan]
) -> Mapping[str, Sample]:
    """A sample of each table that is to be copied into documents, by the table's name."""
    if config.sync_schema_only or config.capabilities.documents != "bson":
        return {}
    copied = [plan for plan in plans if plan.copies]
    with ThreadPool(_THREADS) as threads:
        samples = threads.map(lambda plan: _sample(config, source, plan), copied)
    return {plan.table.name: one for plan, one in zip(copied, samples, strict=True)}


def _sample(config: Config, source: Source, plan: TablePlan) -> Sample:
    table, sample = plan.table, Sample()
    scan = ScanPlan(table.name, SEGMENTS, ITEMS, filter=config.scan_filter)
    # One bad item must not hide the size of the others.
    options = replace(codec.Options.of(config, table.keys), rejects=True)
    kept = config.bad_items == "keep"
    for segment in range(SEGMENTS):
        try:
            body = source.sample(scan, segment, max_tries=_MAX_TRIES)
            sample += _measure(table.name, body, options, kept)
        except ItemError as error:
            return sample + Sample(problem=f"{error.of_table(table.name)}")
        except (Unreachable, SourceError, codec.CorruptPage) as error:
            return sample + Sample(problem=f"table {table.name}: no whole sample: {error}")
        if sample.units >= UNITS:
            break
    return sample


def _measure(table: str, body: bytes, options: codec.Options, kept: bool) -> Sample:
    page = codec.scan_page(body, options)
    documents, rejects = transcode(page)
    stored = sum(map(item_bytes, bad_items.every_item(body)))
    problem = ""
    if rejects:
        [first, *_] = bad_items.items(body, options, rejects)
        table = f"{table}: {many(len(rejects), 'item')} of the sample"
        outcome = "be kept" if kept else "stop the task"
        problem = f"table {table} cannot be stored and would {outcome}: {first.key}: {first.reason}"
        if not kept:
            problem += KEEP_ADVICE
    written = sum(map(len, documents))
    return Sample(page.scanned, page.count, stored, written, page.capacity, problem)


def transcode(page: codec.ScanPage) -> tuple[list[bytes], list[codec.Reject]]:
    """The documents of a page, and what is none. Their ObjectIds mean nothing."""
    out = memoryview(bytearray(SLOT_BYTES))
    documents: list[bytes] = []
    rejects: list[codec.Reject] = []
    while not page.done:
        length, _ = page.fill(out, segment_prefix(0, 0), 0)
        documents += [one.tobytes() for one in codec.singly(out[:length])]
        rejects += page.take_rejects()
    return documents, rejects
