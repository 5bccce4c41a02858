"""One kept-alive HTTP connection, whose answers are received where they are read: in one buffer.

urllib3 opens it: proxies, TLS and its verification are its work. What follows is by hand, since at
a megabyte an answer the wake-ups and copies of a general client cost more than all else.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.httpsession import ProxyConfiguration, create_urllib3_context, get_cert_path
from botocore.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url
from urllib3.util.connection import is_connection_dropped

from shake.source.endpoint import shown

_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]
#: The kernel wakes the reader of a body when so many bytes are there, not for each packet.
_WAKE_BYTES = 256 * 1024
#: What TLS may have taken from the socket without having given it out: a record at most.
_TLS_RECORD = 17 * 1024
#: A page of 1 MB is up to twice as large as JSON; a buffer grows to the largest answer.
_FIRST_BYTES = 64 * 1024
#: No answer of DynamoDB is larger: 1 MB of the shortest elements, such as null, is 7 MB of JSON,
#: and a record has two images.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
_MAX_BYTES = 64 * 2**20
_MAX_HEAD = 64 * 1024
_UNREADABLE = (
    "an address cannot be read: check the proxy of the environment (HTTPS_PROXY, HTTP_PROXY), and "
    "percent-encode its user and password"
)
_LENGTH = re.compile("[0-9]{1,18}")
_HEAD_END = b"\r\n\r\n"


class ConnectionBroken(Exception):
    """The connection failed; the message says how, without the endpoint's path or password."""


class Answer(NamedTuple):
    """One answer. ``headers`` are in lower case.

    ``body`` lies in the buffer it was received into and ends in a 0 byte that is not part of it,
    as the codec needs it; it is valid until the buffer's next use.
    """

    status: int
    headers: Mapping[str, str]
    body: memoryview


class Buffer:
    """Memory that answers are received into, one after the other; it never shrinks."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_FIRST_BYTES))

    def grow(self, size: int, kept: int) -> None:
        """Make room for ``size`` bytes; the first ``kept`` stay."""
        if size > len(self.view):
            before, self.view = self.view, memoryview(bytearray(size + size // 4))
            self.view[:kept] = before[:kept]


class Connection:
    """A connection to the server of ``url``; ``timeout`` in seconds, None waits for ever.

    Every method raises ConnectionBroken where the network fails; the connection is to be closed
    then.
    """

    def __init__(self, url: str, timeout: float | None, ca_bundle: str) -> None:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        self._timeout = timeout
        self._close_after = False
        self._slack = _TLS_RECORD if tls else 0
        self._target = parts.path or "/"
        self._headers = f"Host: {parts.netloc.rpartition('@')[2]}\r\n"
        proxy = None
        try:
            proxies = ProxyConfiguration(get_environ_proxies(url))
            proxy = proxies.proxy_url_for(url)
            credentials = proxies.proxy_headers_for(proxy) if proxy else {}
            self._opened = _open(url, proxy, credentials, timeout, ca_bundle)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            reason = _reason(error)
            way = f" by the proxy {shown(proxy)}" if proxy and reason != _UNREADABLE else ""
            raise ConnectionBroken(f"cannot connect to {shown(url)}{way}: {reason}") from error
        if proxy and not tls:
            self._target = shown(url) + self._target
            self._headers += "".join(f"{k}: {v}\r\n" for k, v in credentials.items())
        self._socket: Any = self._opened.sock

    @property
    def alive(self) -> bool:
        """Whether it may be used again: an idle one with something to read was closed."""
        return not self._close_after and not is_connection_dropped(self._opened)

    def send(self, headers: Mapping[str, str], body: bytes) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {self._target} HTTP/1.1\r\n{self._headers}{lines}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            self._socket.sendall(head.encode("latin-1") + body)
        except OSError as error:
            raise ConnectionBroken(f"the request could not be sent: {_reason(error)}") from error

    def receive(self, buffer: Buffer) -> Answer:
        """Wait for the answer to what was sent."""
        got = 0
        while (end := bytes(buffer.view[:got]).find(_HEAD_END)) < 0:
            if got > _MAX_HEAD:
                raise ConnectionBroken("the answer is not HTTP")
            buffer.grow(got + _FIRST_BYTES // 2, got)
            got += self._read(buffer.view[got:])
        status, version, headers = _parse_head(bytes(buffer.view[:end]))
        self._close_after = version < "HTTP/1.1" or headers.get("connection", "").lower() == "close"
        start = end + len(_HEAD_END)
        length = headers.get("content-length", "")
        if status // 100 == 1 or not _LENGTH.fullmatch(length):
            return self._receive_otherwise(buffer, got)
        if int(length) > _MAX_BYTES:
            raise ConnectionBroken(
                f"the answer has {length} bytes, and no answer of DynamoDB is so large"
            )
        stop = start + int(length)
        buffer.grow(stop + 1, got)
        self._read_body(buffer.view, start, got, stop)
        buffer.view[stop] = 0
        return Answer(status, headers, buffer.view[start : stop + 1])

    def close(self) -> None:
        self._opened.close()

    def _read_body(self, view: memoryview, start: int, got: int, stop: int) -> None:
        """Read up to ``stop``, woken by the kernel as rarely as may be."""
        wake = 1
        while got < stop:
            sure = max(1, stop - got - self._slack)  # will come through the socket
            if wake > sure or (wake == 1 and sure > 1):
                wake = min(_WAKE_BYTES, sure) if wake == 1 else max(1, sure // 2)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wake)
            got += self._read(view[got:stop], got - start, stop - start)
        if wake > 1:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _read(self, into: memoryview, got: int = 0, size: int = 0) -> int:
        """Some bytes more, where ``got`` of the body's ``size`` are there: by TLS 16 KB at most."""
        try:
            # With its length given, an SSLSocket need not ask the view.
            read: int = self._socket.recv_into(into, len(into))
        except TimeoutError:
            raise ConnectionBroken(
                f"no byte came for {self._timeout:g} s, {_when(got, size)}"
            ) from None
        except OSError as error:
            reason = f"the connection broke {_when(got, size)}: {_reason(error)}"
            raise ConnectionBroken(reason) from error
        if not read:
            raise ConnectionBroken(f"the connection was closed {_when(got, size)}")
        return read

    def _receive_otherwise(self, buffer: Buffer, got: int) -> Answer:
        """An answer in chunks, or up to the end of the connection: by the standard library."""
        response = HTTPResponse(_Replayed(bytes(buffer.view[:got]), self._socket), method="POST")  # type: ignore[arg-type]
        try:
            response.begin()
            body = response.read(_MAX_BYTES + 1)
        except (HTTPException, OSError) as error:
            raise ConnectionBroken(f"the answer broke off: {_reason(error)}") from error
        self._close_after = bool(response.will_close)
        buffer.grow(len(body) + 1, 0)
        buffer.view[: len(body)] = body
        buffer.view[len(body)] = 0
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, buffer.view[: len(body) + 1])


class _Replayed(io.RawIOBase):
    """A socket's bytes, those that were read from it already once more.

    They end by an error after _MAX_BYTES, whatever they are: chunks, headers, a body without end.
    """

    def __init__(self, again: bytes, source: socket.socket) -> None:
        self._again = again
        self._source = source
        self._left = _MAX_BYTES - len(again)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if not self._again:
            received = self._source.recv_into(into)
            self._left -= received
            if self._left < 0:
                raise OSError("it is larger than any answer of DynamoDB")
            return received
        count = min(len(into), len(self._again))
        into[:count], self._again = self._again[:count], self._again[count:]
        return count


def _open(
    url: str,
    proxy: str | None,
    credentials: Mapping[str, str],
    timeout: float | None,
    ca_bundle: str,
) -> HTTPConnection:
    """Connect as botocore does: by the environment's proxy, TLS by its rules."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    options: dict[str, Any] = {"timeout": timeout, "socket_options": _SOCKET_OPTIONS}
    place = host, port
    if proxy:
        first = parse_url(proxy)
        place = first.host or "", first.port or (443 if first.scheme == "https" else 80)
        options |= {"proxy": first, "proxy_config": ProxyConfig(None, False, None, None)}
    if parts.scheme != "https":
        connection = HTTPConnection(*place, **options)
    else:
        connection = HTTPSConnection(
            *place,
            **options,
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_bundle or get_cert_path(True),
            ssl_context=create_urllib3_context(),
        )
        if proxy:
            connection.set_tunnel(host, port, dict(credentials))
    connection.connect()
    return connection


def _parse_head(head: bytes) -> tuple[int, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/") or not rest[:3].isdigit():
        raise ConnectionBroken("the answer is not HTTP")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), version, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _when(got: int, size: int) -> str:
    return f"after {got} of {size} bytes of the answer" if size else "before the answer began"


def _reason(error: BaseException) -> str:
    """The innermost words of an error that libraries have wrapped."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):  # it quotes an address
        return _UNREADABLE
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
