"""How many CPUs this process may use: by its affinity, and by the quotas of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

_PROC = Path("/proc/self")


def usable_cpus(proc: Path = _PROC) -> int:
    """The whole CPUs that this process may use, at least 1; ``proc`` is its folder in /proc."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = inf
    with suppress(OSError, ValueError):  # not Linux, or a system that shows no control groups
        quota = min((quota_of(folder) for folder in _control_groups(proc)), default=inf)
    return max(1, int(min(cpus, quota)))


def quota_of(folder: Path) -> float:
    """The CPUs that a control group may use, infinite where it has no limit.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max)
    Source: https://docs.kernel.org/scheduler/sched-bwc.html (version 1)
    """
    with suppress(OSError):
        quota, period = (folder / "cpu.max").read_text().split()
        return inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError):
        quota = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
        return inf if int(quota) < 0 else int(quota) / int(period)
    return inf


def _control_groups(proc: Path) -> Iterator[Path]:
    """The folders of the groups that limit this process: its own, and those above it.

    Source: cgroups(7), proc_pid_mountinfo(5)
    """
    groups: dict[str, str] = {}  # by controller, "" for version 2
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    for line in (proc / "mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        root, point = mount.split()[3:5]
        kind, _, options = system.split()[:3]
        if kind == "cgroup2":
            path = groups.get("", "/")
        elif kind == "cgroup" and "cpu" in options.split(","):
            path = groups.get("cpu", "/")
        else:
            continue
        # In a container the mount can show the group itself as its root.
        inside = os.path.relpath(path, root) if (path + "/").startswith(root) else "."
        parts = [] if inside.startswith(".") else inside.split("/")
        for depth in range(len(parts) + 1):
            yield Path(point, *parts[:depth])
