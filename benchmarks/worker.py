"""The worker's whole page path: receive over TLS, check, transcode into the slot."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.measure import Usage, typical
from benchmarks.pages import json_bytes
from benchmarks.programs import bench, items_for
from benchmarks.report import Options, Report

_SHAPES = ("small", "medium", "large")
_ROUNDS = 3
#: What a network of 1 GB/s gives to each of eight connections.
_PACE = 125e6

#: What lies between source and worker: options of the source, and whether by TLS.
LINKS: dict[str, tuple[tuple[str, ...], bool]] = {
    "TLS": ((), True),
    "TLS, paced": (("--bandwidth", str(_PACE)), True),
    "plain": ((), False),
}


def run(options: Options) -> Report:
    """Copy tables over each kind of link in turns; what workers took beyond their start counts."""
    shapes, rounds = options.shapes or _SHAPES, options.rounds or _ROUNDS
    runs: dict[tuple[str, str], list[Usage]] = {(s, link): [] for s in shapes for link in LINKS}
    with ExitStack() as stack:
        places = {
            link: stack.enter_context(bench(*replay, tls=tls))
            for link, (replay, tls) in LINKS.items()
        }
        for _ in range(rounds):
            for (shape, link), usages in runs.items():
                items = _items(shape, options)
                usages.append(places[link].beyond_start(shape, items, options.farm))
    report = Report(
        f"worker: JSON by one core of its whole page path, {options.farm} workers, "
        f"median of {rounds} rounds, paced: {_PACE / 1e6:g} MB/s on each connection"
    )
    for (shape, link), usages in runs.items():
        size = _items(shape, options) * json_bytes(shape)
        each = [run.roles.get("worker", 0.0) for run in usages]
        used = typical(usages)
        report.rows.append(
            {
                "shape": shape,
                "link": link,
                "MB/s per core": size / max(used.roles.get("worker", 0.0), 1e-3) / 1e6,
                "worker CPU s/GB": used.roles.get("worker", 0.0) / size * 1e9,
                "lowest": min(each) / size * 1e9,
                "highest": max(each) / size * 1e9,
                "source CPU s/GB": used.servers["source"] / size * 1e9,
            }
        )
    return report


def _items(shape: str, options: Options) -> int:
    return items_for(shape, options) // 2
