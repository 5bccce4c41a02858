"""``python -m benchmarks``: runs all benchmarks, or those that are named."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import full, idle, memory, tail
from benchmarks.measure import Failed
from benchmarks.pages import SHAPES
from benchmarks.report import Options

BENCHMARKS = {"full": full.run, "memory": memory.run, "tail": tail.run, "idle": idle.run}
_DEFAULTS = Options()


def main() -> int:
    """Run; return 1 where a measured program failed."""
    arguments = _parser().parse_args()
    options = Options(
        items=arguments.items,
        shape=arguments.shape,
        workers=arguments.workers,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
    )
    reports = {}
    try:
        for name in arguments.benchmarks or BENCHMARKS:
            reports[name] = BENCHMARKS[name](options)
            print(reports[name], end="\n\n", flush=True)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        if arguments.json:
            _write(arguments.json, {name: asdict(report) for name, report in reports.items()})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "benchmarks", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; none: all"
    )
    parser.add_argument("--items", type=int, help="of the table (memory: of the smallest)")
    parser.add_argument("--shape", choices=SHAPES, help="what the items are like")
    parser.add_argument("--workers", type=int, default=_DEFAULTS.workers)
    parser.add_argument("--rounds", type=int, default=_DEFAULTS.rounds, help="of full")
    parser.add_argument("--seconds", type=float, default=_DEFAULTS.seconds, help="of idle")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    return parser


def _write(file: Path, reports: dict[str, object]) -> None:
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }
    file.write_text(json.dumps({"machine": machine, "reports": reports}, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
