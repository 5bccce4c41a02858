"""Measures the CPU of a farm that only waits."""

from __future__ import annotations

import time

from benchmarks.measure import Failed, cpu_clock, family, role, running
from benchmarks.programs import bench, table_of
from benchmarks.report import Options, Report, Value

#: A table that is too large to be copied while it is measured.
_ITEMS = 1_000_000
_SHAPE = "medium"
_FOREVER = "86400"
#: Seconds within which the farm must start and become idle. It is idle when it uses fewer CPU
#: seconds per second than this.
_PATIENCE = 30.0
_QUIET = 0.05

#: What the farm waits for: options of source and of sink.
WAITS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "source silent": (("--delay", _FOREVER), ()),
    "source throttles": (("--throttle",), ()),
    "target silent": ((), ("--delay", _FOREVER)),
}


def run(options: Options) -> Report:
    """Measure CPU over ``seconds`` while the source, then the target, gives nothing."""
    report = Report(f"idle farm: CPU in % of a core over {options.seconds:g} s, status page on")
    report.rows += [{"waits for": name, **idle(name, options)} for name in WAITS]
    most = max(float(row["all"]) for row in report.rows)
    report.findings.append(f"an idle farm uses at most {most:.2f} % of a core")
    return report


def idle(name: str, options: Options) -> dict[str, Value]:
    """CPU of each process while it waits for one of WAITS."""
    source, sink = WAITS[name]
    with bench(*source, sink=sink) as place:
        table = table_of(options.shape(_SHAPE), options.items or _ITEMS)
        command = place.shake_command(table, options.farm, "http_profile=0")
        log = place.folder / "log"
        with running(command, log) as process:
            _settle(process.pid, 2 + options.farm)
            before, began = _cpu(process.pid), time.monotonic()
            time.sleep(options.seconds)
            after, took = _cpu(process.pid), time.monotonic() - began
        if before.keys() != after.keys() or len(after) < 2 + options.farm:
            raise Failed(f"processes came or went while {name}:\n{log.read_text()[-2000:]}")
    shares = {each: 100 * (after[each] - before[each]) / took for each in after}
    return {**shares, "all": sum(shares.values())}


def _settle(pid: int, processes: int) -> None:
    """Wait until so many processes are idle, for a limited time: one that spins is measured too."""
    end = time.monotonic() + _PATIENCE
    before: dict[str, float] = {}
    while time.monotonic() < end:
        after = _cpu(pid)
        quiet = sum(after.values()) - sum(before.values()) < _QUIET
        if quiet and len(after) == processes and before.keys() == after.keys():
            return
        before = after
        time.sleep(1.0)


def _cpu(pid: int) -> dict[str, float]:
    """CPU seconds of each process, by its title."""
    return {role(each).strip(): cpu_clock(each.pid) for each in family(pid)}
