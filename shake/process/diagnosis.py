"""What the process that asks is doing right now."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import suppress

from shake.process.messages import Diagnosis


def diagnose(role: str, queue: str = "") -> Diagnosis:
    """The report of the process that calls this."""
    import psutil  # here: it costs every start of a child what few will ever look at

    rss, cpu = 0, 0.0
    with suppress(psutil.Error, OSError):  # where /proc does not show it
        me = psutil.Process()
        rss, cpu = me.memory_info().rss, sum(me.cpu_times()[:2])
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = "\n".join(
        f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
    return Diagnosis(role, os.getpid(), rss, cpu, stacks, queue)
