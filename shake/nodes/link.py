"""Links between a head and its nodes: TCP with TLS, between two sides that know the secret.

The head has a Listener, which accepts links. A node makes its own by :func:`connect`.
"""

from __future__ import annotations

import logging
import queue
import re
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shake.errors import RefusedError
from shake.nodes.credentials import Certificate
from shake.nodes.hello import Frames, HelloError, WrongSecretError, greet_head, greet_node

log = logging.getLogger("shake.nodes")

#: Seconds for all of a hello.
HELLO_SECONDS = 5.0
#: Connections whose hello goes on: from one address, so that it cannot keep others away, and in
#: all. More are closed at once, and a node tries again.
MAX_HELLOS_OF_ADDRESS, MAX_HELLOS = 32, 256
#: Seconds after which the kernel closes a connection over which nothing arrives, where it can.
#: Otherwise a node without work would wait for hours for a head whose machine has no power.
SILENT_SECONDS = 30
_NO_HEAD = "what answers there is no head of shake"
#: Seconds between two lines about connections that were no nodes. The port can be open to many.
_COMPLAINT_SECONDS = 10.0
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([\w.-]*)):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Of HOST:PORT, or [HOST]:PORT for the colons of IPv6. Raises ValueError."""
        found = _ADDRESS.fullmatch(text)
        if not found or int(found[3]) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(found[1] or found[2], int(found[3]))

    @property
    def family(self) -> socket.AddressFamily:
        """The family in which to listen on it."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TlsSocket(ssl.SSLSocket):
    """A connection with TLS that an event loop can use as it uses a plain socket.

    A record of TLS, of 16 KiB at most, must be read as a whole. So nothing that is decrypted stays
    behind unseen, and a selector reports all that can be read.
    Source: https://www.rfc-editor.org/rfc/rfc8446#section-5.1
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: Any, flags: int = 0) -> int:
        """How much was taken. After a BlockingIOError the next data must begin with the same."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None


@dataclass(frozen=True, slots=True)
class Link:
    """An encrypted connection to the other side, which has proved that it knows the secret.

    ``name`` is the name of the node, and ``peer`` the address of the other side.
    """

    stream: socket.socket
    name: str
    peer: str


class Listener:
    """The head's side: threads wait for nodes. Raises RefusedError."""

    def __init__(self, address: Address, secret: bytes, certificate: Certificate) -> None:
        self._secret = secret
        self._certificate = certificate
        try:
            self._socket = socket.create_server(
                (address.host, address.port), family=address.family, backlog=128
            )
        except OSError as error:
            raise RefusedError(f"cannot listen for nodes on {address}: {error.strerror}") from None
        self.host, self.port = address.host, int(self._socket.getsockname()[1])
        self.links: queue.SimpleQueue[Link] = queue.SimpleQueue()  # none once it is closed
        self._lock = threading.Lock()
        self._hellos: Counter[str] = Counter()  # going on, by address
        self._closed = False
        self._complained = -_COMPLAINT_SECONDS
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    def close(self) -> None:
        """Accept no more. Links that were accepted stay."""
        with self._lock:
            self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that listens
        self._socket.close()

    def _listen(self) -> None:
        while not self._closed:
            try:
                connection, peer = self._socket.accept()
            except OSError:  # also: no descriptor is free
                time.sleep(0.1)
                continue
            if not self._admitted(connection, peer[0]):
                connection.close()

    def _admitted(self, connection: socket.socket, peer: str) -> bool:
        """Begin the hello in a thread; False where too many go on already."""
        with self._lock:
            full = self._hellos.total() >= MAX_HELLOS
            if full or self._hellos[peer] >= MAX_HELLOS_OF_ADDRESS:
                return False
            self._hellos[peer] += 1
        thread = threading.Thread(target=self._meet, args=(connection, peer), name="hello")
        thread.daemon = True
        try:
            thread.start()
        except RuntimeError:  # no thread is free
            self._forget(peer)
            return False
        return True

    def _meet(self, connection: socket.socket, peer: str) -> None:
        try:
            link = self._greeted(connection, peer)
        except (HelloError, OSError) as error:
            self._complain(peer, error)
        else:
            with self._lock:
                if not self._closed:
                    self.links.put(link)
                    return
            link.stream.close()
        finally:
            self._forget(peer)

    def _greeted(self, connection: socket.socket, peer: str) -> Link:
        tls = _encrypted(connection, self._certificate.context, server=True)
        try:
            frames = Frames(tls, HELLO_SECONDS)
            name = greet_node(frames, self._secret, self._certificate.digest)
        except BaseException:
            tls.close()
            raise
        return Link(tls, name, peer)

    def _forget(self, peer: str) -> None:
        with self._lock:
            self._hellos[peer] -= 1
            self._hellos += Counter()  # without those of which none goes on

    def _complain(self, peer: str, error: Exception) -> None:
        """Log what was no link, but not at the rate at which others can connect."""
        with self._lock:
            now = time.monotonic()
            if now < self._complained + _COMPLAINT_SECONDS:
                return
            self._complained = now
        reason = "it does not speak TLS" if isinstance(error, ssl.SSLError) else error
        log.warning("a connection from %s to the port for nodes is refused: %s", peer, reason)


def connect(address: Address, secret: bytes, name: str) -> Link:
    """The node's side: one try of a link to the head.

    Raises RefusedError where no other try will help, and OSError where one may: a head can come
    where something else answers now.
    """
    connection = socket.create_connection((address.host, address.port), timeout=HELLO_SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The head proves by the secret that this is its certificate: see shake.nodes.hello.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    tls = _encrypted(connection, context, server=False)
    try:
        greet_head(Frames(tls, HELLO_SECONDS), secret, name)
    except BaseException as error:
        tls.close()
        if isinstance(error, ssl.SSLEOFError):
            raise ConnectionResetError("the other side has closed the connection") from None
        if isinstance(error, WrongSecretError):
            raise RefusedError(
                f"the head at {address} has another secret: give this node the secret of its head"
            ) from None
        if isinstance(error, ssl.SSLError):
            raise ConnectionError(f"{_NO_HEAD}: no TLS 1.3 ({error.reason})") from None
        if isinstance(error, HelloError):
            raise ConnectionError(f"{_NO_HEAD}: {error}") from None
        raise
    return Link(tls, name, address.host)


def _encrypted(
    connection: socket.socket, context: ssl.SSLContext, *, server: bool
) -> ssl.SSLSocket:
    """The connection with TLS, whose handshake is still to come. Closes it at an error."""
    context.sslsocket_class = TlsSocket
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _end_if_silent(connection)
        return context.wrap_socket(connection, server_side=server, do_handshake_on_connect=False)
    except BaseException:
        connection.close()
        raise


def _end_if_silent(connection: socket.socket) -> None:
    """Have the kernel notice that the other machine, or the network, is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # https://man7.org/linux/man-pages/man7/tcp.7.html
    values = {
        "TCP_KEEPIDLE": SILENT_SECONDS // 3,
        "TCP_KEEPINTVL": SILENT_SECONDS // 6,
        "TCP_KEEPCNT": 4,
        "TCP_USER_TIMEOUT": SILENT_SECONDS * 1000,
    }
    for name, value in values.items():
        if option := getattr(socket, name, None):  # not every system has each of them
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
