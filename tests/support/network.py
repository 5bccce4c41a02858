"""Machines of a network, each a network namespace: its links can be cut one by one.

Every machine has two links: ``control`` leads to the other machines, and ``data`` to the servers.
A link that is cut is silent: packets are lost, and no connection is closed. It needs root.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from typing_extensions import Self

from tests.support.migration import ROOT

T = TypeVar("T")

Link = Literal["control", "data"]
#: Where the servers are, for all machines.
SERVERS = "10.78.0.1"
_PREFIXES: dict[Link, str] = {"control": "10.77.0", "data": "10.78.0"}
#: Enters a network namespace. Source: setns(2), CLONE_NEWNET
_ENTER = (
    "import ctypes, os; _libc = ctypes.CDLL(None, use_errno=True);"
    "assert not _libc.setns(os.open('/run/netns/{}', os.O_RDONLY), 0x40000000)"
)
_numbers = itertools.count()


def why_no_network() -> str:
    """Why this machine has no network namespaces for tests; empty where it has."""
    if os.geteuid():
        return "it needs root"
    try:
        with Network(["probe"]):
            return ""
    except OSError as error:
        return error.strerror or str(error)
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip() or str(error)


class Network:
    """The machines, by name; a context manager, which ends what runs on them."""

    def __init__(self, machines: Sequence[str]) -> None:
        self._machines = list(machines)
        self._prefix = f"shake-{os.getpid()}-{next(_numbers)}"
        self._servers = f"{self._prefix}-servers"
        self._namespaces: list[str] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._create(self._servers)
            for link, prefix in _PREFIXES.items():
                self._ip(self._servers, f"link add name {link} type bridge")
                self._ip(self._servers, f"addr add {prefix}.1/24 dev {link}")
                self._ip(self._servers, f"link set dev {link} up")
            for machine in self._machines:
                self._create(self._namespace(machine))
                for link in _PREFIXES:
                    self._connect(machine, link)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False)

    def _create(self, namespace: str) -> None:
        _run(f"ip netns add {namespace}")
        self._namespaces.append(namespace)
        self._ip(namespace, "link set dev lo up")

    def _connect(self, machine: str, link: Link) -> None:
        """A cable from the machine to the switch of all these links."""
        namespace, cable = self._namespace(machine), _cable(machine, link)
        peer = f"peer name {link} netns {namespace}"
        self._ip(self._servers, f"link add name {cable} type veth {peer}")
        self._ip(namespace, f"addr add {self.address(machine, link)}/24 dev {link}")
        self._ip(namespace, f"link set dev {link} up")
        self._ip(self._servers, f"link set dev {cable} master {link} up")

    def _namespace(self, machine: str) -> str:
        return f"{self._prefix}-{machine}"

    def _ip(self, namespace: str, command: str) -> None:
        _run(f"ip -n {namespace} {command}")

    def address(self, machine: str, link: Link = "control") -> str:
        """Its address, to which the others connect."""
        return f"{_PREFIXES[link]}.{10 + self._machines.index(machine)}"

    # ---- what happens to links

    def cut(self, machine: str, *links: Link) -> None:
        """Pull the cables of these links out of the switch."""
        for link in links:
            self._ip(self._servers, f"link set dev {_cable(machine, link)} nomaster")

    def heal(self, machine: str, *links: Link) -> None:
        """Put the cables back."""
        for link in links:
            self._ip(self._servers, f"link set dev {_cable(machine, link)} master {link}")

    # ---- what runs there

    def first(self, machine: str) -> str:
        """Python that a process runs first, to be on this machine."""
        return _ENTER.format(self._namespace(machine))

    def shake(self, machine: str, *arguments: str, out: Path) -> subprocess.Popen[bytes]:
        """Start bin/shake on a machine; what it prints goes to a file."""
        program = [sys.executable, str(ROOT / "bin/shake"), *arguments]
        with out.open("wb") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace(machine), *program],
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        return process

    def among_servers(self, make: Callable[[], T]) -> T:
        """What ``make`` makes; sockets that it opens are at SERVERS."""
        made: list[T] = []

        def enter() -> None:
            descriptor = os.open(f"/run/netns/{self._servers}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
                    raise OSError(ctypes.get_errno(), "setns")
                made.append(make())
            finally:
                os.close(descriptor)

        thread = threading.Thread(target=enter)  # a namespace is that of a thread
        thread.start()
        thread.join()
        [only] = made
        return only


def _cable(machine: str, link: Link) -> str:
    """The end at the switch; a name has at most 15 characters."""
    return f"{link[:4]}-{machine}"


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True)
