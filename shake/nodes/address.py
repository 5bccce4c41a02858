"""Addresses of a head: HOST:PORT."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

_FORM = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([\w.-]*)):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Of HOST:PORT, or [HOST]:PORT for the colons of IPv6. Raises ValueError."""
        found = _FORM.fullmatch(text)
        if not found or int(found[3]) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(found[1] or found[2], int(found[3]))

    @property
    def family(self) -> socket.AddressFamily:
        """The family in which to listen on it."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
