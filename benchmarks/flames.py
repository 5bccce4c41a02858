"""``make profile``: a copy under a sampling profiler; a flame graph of each role of process.

Python and C alike, only of threads that run. Beside each graph are its stacks as text, one a line
and how often it was seen, as speedscope and flamegraph.pl read them.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil

from benchmarks.flamegraph import flame_graph
from benchmarks.measure import ROOT, Failed, family, role, running
from benchmarks.pages import SHAPES
from benchmarks.programs import ROLES, Bench, bench, table_of

#: Seconds within which shake must start all processes, and py-spy must write its samples.
_PATIENCE = 60.0
#: Functions in which a thread only waits; ``recv`` too, where it receives only messages.
_WAITS = {
    *("PyThread_acquire_lock_timed", "clock_nanosleep", "epoll_wait", "poll", "select", "sem_wait"),
    *("pthread_cond_timedwait", "pthread_cond_wait"),
}
_MAY_NOT = (
    "py-spy reads the memory of another process, which this system does not allow. It does so for "
    "root, for all after `sudo sysctl kernel.yama.ptrace_scope=0`, and in a container that has the "
    "capability SYS_PTRACE"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flames", description=__doc__)
    parser.add_argument("--items", type=int, default=5_000_000)
    parser.add_argument("--shape", choices=SHAPES, default="medium")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tls", action="store_true", help="the source speaks TLS")
    parser.add_argument("--rate", type=int, default=200, help="samples a second")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/profile", metavar="DIR")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        with bench(tls=options.tls) as place:
            files = profile(place, table_of(options.shape, options.items), options)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(*files, sep="\n")
    return 0


def profile(place: Bench, table: str, options: argparse.Namespace) -> list[Path]:
    """Copy a table, and sample the first process of each role from its start to its end."""
    files = {each: options.folder / f"{each}.txt" for each in ROLES}
    command, log = place.shake_command(table, options.workers), place.folder / "log"
    watchers: dict[str, subprocess.Popen[str]] = {}
    with running(command, log, place.environment) as shake:
        end = time.monotonic() + _PATIENCE
        while len(watchers) < len(files) and shake.poll() is None and time.monotonic() < end:
            for kind, pid in _started(shake.pid).items():
                if kind in files and kind not in watchers:
                    watchers[kind] = _watch(pid, files[kind], options.rate)
            time.sleep(0.02)
        if shake.wait():
            raise Failed(f"{' '.join(command)}: exit {shake.returncode}\n{log.read_text()[-2000:]}")
    for kind in files:
        if kind not in watchers:
            raise Failed(f"the {kind} ended before it could be watched: copy more --items")
        said, _ = watchers[kind].communicate(timeout=_PATIENCE)
        if watchers[kind].returncode:
            allowed = _MAY_NOT if "ermission" in said else "py-spy failed"
            raise Failed(f"no flame graph of the {kind}: {allowed}\n{said}")
    return [_draw(file, table) for file in files.values()]


def _draw(file: Path, table: str) -> Path:
    """Draw py-spy's stacks, and replace them by the cleaned ones."""
    stacks = running_stacks(file.read_text())
    file.write_text("".join(f"{';'.join(stack)} {seen}\n" for stack, seen in stacks.items()))
    graph = file.with_suffix(".svg")
    graph.write_text(flame_graph(stacks, f"{file.stem}: CPU while {table} is copied"))
    return graph


def running_stacks(text: str) -> dict[tuple[str, ...], int]:
    """Return the stacks of running threads, without frames that have no name.

    A thread that the profiler has just stopped counts as running for a moment.
    """
    stacks: dict[tuple[str, ...], int] = {}
    for line in text.splitlines():
        frames, _, seen = line.rpartition(" ")
        stack = tuple(frame for frame in frames.split(";") if not frame.startswith("0x"))
        if not _waits(stack):
            stacks[stack] = stacks.get(stack, 0) + int(seen)
    return stacks


def _waits(stack: tuple[str, ...]) -> bool:
    within = {frame.partition(" ")[0] for frame in stack[-2:]}
    listens = "recv" in within and any(f.startswith("ChildChannel.receive ") for f in stack)
    return listens or bool(within & _WAITS)


def _started(pid: int) -> dict[str, int]:
    """Processes of shake that have set their title, which shows that Python runs in them."""
    found: dict[str, int] = {}
    for each in family(pid):
        with contextlib.suppress(psutil.Error):
            if each.cmdline()[0].startswith("shake: "):
                found.setdefault(role(each).partition(" ")[0], each.pid)
    return found


def _watch(pid: int, file: Path, rate: int) -> subprocess.Popen[str]:
    spy = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    if spy is None:
        raise Failed("py-spy, one of the dev extras, is not installed: run `make venv`")
    command = [spy, "record", "--native", "--threads", "--rate", str(rate)]
    command += ["--format", "raw", "--output", str(file), "--pid", str(pid)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
