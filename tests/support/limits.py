"""Limits of a process that root does not usually meet."""

from __future__ import annotations

import ctypes
import os
import resource

#: Source: capabilities(7), capget(2), prctl(2)
_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 21, 24
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522


def limit_processes(most: int) -> None:
    """Let this process, and its children, have ``most`` processes and threads in all.

    The limit is one of the real user, and root does not meet it: so root becomes, for the count
    only, a user that has no processes yet.
    """
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os.setresuid(60_000 + os.getpid() % 5000, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
        assert libc.capget(header, sets) == 0
        for capability in (_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE):
            assert libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0  # for what it executes
            for kind in range(3):
                sets[kind] &= ~(1 << capability)
        assert libc.capset(header, sets) == 0
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
