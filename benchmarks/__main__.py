"""``python -m benchmarks``: runs all benchmarks, or the named ones."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import ROOT, Failed
from benchmarks.pages import SHAPES
from benchmarks.plot import draw
from benchmarks.report import Options, Report

#: Each is a module with ``run(options)``.
BENCHMARKS = (
    "codec",
    "queue",
    "worker",
    "full",
    "size",
    "start",
    "roles",
    "latency",
    "follow",
    "journal",
    "memory",
    "tail",
    "idle",
    "lag",
    "real",
    "writers",
    "nodes",
    "check",
    "proof",
    "viewer",
)


def main() -> int:
    """Run the benchmarks; return 1 if a measured program failed."""
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.benchmarks).difference(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    options = Options(
        items=arguments.items,
        shapes=tuple(arguments.shape),
        workers=tuple(arguments.workers),
        writers=tuple(arguments.writers),
        rounds=arguments.rounds,
        seconds=arguments.seconds,
    )
    reports = {}
    try:
        for name in arguments.benchmarks or BENCHMARKS:
            run: Callable[[Options], Report] = importlib.import_module(f"benchmarks.{name}").run
            reports[name] = run(options)
            print(reports[name], flush=True)
            _plot(reports[name], name, arguments.plots)
            print(flush=True)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        if arguments.json:
            _write(arguments.json, {name: asdict(report) for name, report in reports.items()})
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "benchmarks", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; none: all"
    )
    parser.add_argument(
        "--items", type=int, default=0, help="of the table (memory, size: of the smallest)"
    )
    parser.add_argument(
        *("--shape", "--shapes"), nargs="+", choices=SHAPES, default=(), help="what items are like"
    )
    parser.add_argument("--workers", nargs="+", type=int, default=())
    parser.add_argument(
        "--writers", nargs="+", type=int, default=(), help="writers of a collection (writers)"
    )
    parser.add_argument("--rounds", type=int, default=0, help="of which the median is taken")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of idle")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", default=ROOT / "build/bench", help="for PNG files"
    )
    return parser


def _plot(report: Report, benchmark: str, folder: Path) -> None:
    for name, chart in report.charts.items():
        file = folder / f"{benchmark}-{name}.png"
        try:
            draw(chart, report.title, file)
        except ImportError as error:
            print(f"no plot: {error}", file=sys.stderr)
        else:
            print(f"-> {file}")


def _write(file: Path, reports: dict[str, object]) -> None:
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine, "reports": reports}, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
