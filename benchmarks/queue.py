"""Measures the shared-memory queue alone: arena and channels between real processes."""

from __future__ import annotations

from sys import executable

from benchmarks.codec import transcode
from benchmarks.measure import Usage, measure, typical
from benchmarks.pages import body, page_items, pages
from benchmarks.programs import ROLES, Bench, bench, items_for
from benchmarks.report import Options, Report, Value
from shake import codec
from shake.process.arena import SLOT_BYTES, SLOTS_PER_SCANNER

_SHAPE = "medium"
_ROUNDS = 3
_PAGES = 20_000
#: Where bytes are copied, the copies take most of the time.
_TOUCHED_SHARE = 5

#: By name: slots in use at a time, and whether their bytes are written and read.
WAYS = {
    "one page at a time": (1, False),
    "all slots of a worker": (2 * SLOTS_PER_SCANNER, False),
    "the same, bytes copied in and out": (2 * SLOTS_PER_SCANNER, True),
}


def run(options: Options) -> Report:
    """Pass pages from a worker by the supervisor to a writer, and free slots the way back.

    One at a time is the highest cost: each message wakes up a process.
    """
    shape, rounds = options.shape(_SHAPE), options.rounds or _ROUNDS
    number = options.items or _PAGES
    length = transcode(codec, memoryview(bytearray(SLOT_BYTES)), body(pages(shape)[0]))
    runs: dict[str, list[Usage]] = {way: [] for way in WAYS}
    copies: list[Usage] = []
    with bench() as place:
        for _ in range(rounds):
            for way, (slots, touch) in WAYS.items():
                start = through(place, 0, length, slots, touch=touch)
                runs[way].append(
                    through(place, _number(number, way), length, slots, touch=touch) - start
                )
            copies.append(place.beyond_start(shape, items_for(shape, options), options.farm))
    copied = items_for(shape, options) / page_items(shape)
    report = Report(
        f"queue: pages of {length:,} bytes of BSON from worker to writer, median of {rounds} rounds"
    )
    for way in WAYS:
        used = typical(runs[way])
        report.rows.append(_row(way, used, _number(number, way), length))
        if not WAYS[way][1]:
            share = 100 * used.cpu / _number(number, way) / (typical(copies).cpu / copied)
            report.findings.append(f"{way}: {share:.1f} % of the CPU of a whole copy")
    return report


def _number(number: int, way: str) -> int:
    return max(1, number // _TOUCHED_SHARE) if WAYS[way][1] else number


def through(place: Bench, number: int, length: int, slots: int, *, touch: bool) -> Usage:
    """Pass so many pages of so many bytes through the queue."""
    command = [executable, "-m", "benchmarks.queue_ends", "--slots", str(slots)]
    command += ["--pages", str(number), "--length", str(length), *(["--touch"] if touch else [])]
    return measure(command, place.folder / "log")


def _row(way: str, used: Usage, number: int, length: int) -> dict[str, Value]:
    rate = number / max(used.seconds, 1e-3)
    return {
        "in flight": way,
        "pages": number,
        "pages/s": round(rate),
        "messages/s": round(4 * rate),  # Page, Write, Wrote, Free
        "MB/s": rate * length / 1e6,
        "CPU us/page": used.cpu / number * 1e6,
        "CPU us/MB": used.cpu / number / length * 1e12,
        **{f"{role} us": used.roles.get(role, 0.0) / number * 1e6 for role in ROLES},
    }
