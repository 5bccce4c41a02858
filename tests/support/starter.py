"""Starts shake's commands by fork from a process that has imported them, in a fraction of the time.

The argument is the descriptor of a socket. Each message there asks for one process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path()

#: Seconds between two looks whether a process has ended.
_LOOK_EVERY = 0.01
#: Signals that a process can have been started to ignore.
_IGNORABLE = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Started:
    """A process, with what the tests use of subprocess.Popen."""

    def __init__(self, pid: int, status: IO[bytes]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._asking = threading.Lock()

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        with self._asking:
            if self.returncode is None and (said := self._status.read()):
                self.returncode = int(said)
                self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(_LOOK_EVERY)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Starter:
    """The process that forks, which ends with this one."""

    def __init__(self) -> None:
        self._asks, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def start(
        self, program: str, arguments: list[str], out: IO[Any], err: IO[Any], folder: Path = HERE
    ) -> Started:
        """Start a program of ``bin/`` as this process would: its environment and signals."""
        order = {
            "argv": [str(ROOT / "bin" / program), *arguments],
            "folder": str(folder.resolve()),
            "environment": dict(os.environ),
            "ignored": [one for one in _IGNORABLE if signal.getsignal(one) is signal.SIG_IGN],
        }
        reading, writing = os.pipe()
        descriptors = [out.fileno(), err.fileno(), writing]
        socket.send_fds(self._asks, [json.dumps(order).encode()], descriptors)
        os.close(writing)
        status = open(reading, "rb", buffering=0)  # noqa: SIM115  # closed when the process ends
        pid = int(status.readline())
        os.set_blocking(reading, False)
        return Started(pid, status)


@cache
def starter() -> Starter:
    """The one of this process."""
    return Starter()


def run(
    program: str, *arguments: str, folder: Path = HERE, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program of ``bin/`` to its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = starter().start(program, list(arguments), out, err, folder)
        status = process.wait(timeout)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([program, *arguments], status, out.read(), err.read())


def main() -> None:
    """Start what is asked for, until the other end of the socket is closed."""
    asks = socket.socket(fileno=int(sys.argv[1]))
    sys.path.insert(0, str(ROOT / "bin"))
    for module in ("shake.cli.main", "shake.cli.supervisor", "_launch"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection would write to the memory of all that is imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies of _tend
    while True:
        message, descriptors, _, _ = socket.recv_fds(asks, 1 << 20, 3)
        if not message:
            return
        if not os.fork():
            asks.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _tend(json.loads(message), *descriptors)
            return
        for one in descriptors:
            os.close(one)


def _tend(order: dict[str, Any], out: int, err: int, status: int) -> None:
    """Start a process; report its pid and its exit status. Returns only in that process."""
    if pid := os.fork():
        os.write(status, f"{pid}\n".encode())
        os.write(status, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
        os._exit(0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for one in (out, err, status):
        os.close(one)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for number in _IGNORABLE:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in order["ignored"] else default)
    sys.argv = order["argv"]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
