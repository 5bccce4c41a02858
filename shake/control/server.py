"""Takes commands on the socket, in a separate thread."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from shake.control.address import is_trusted, listen
from shake.control.commands import MAX_BYTES, Command, Reply, read_command, write_reply

log = logging.getLogger("shake.control")

#: Connections at once. Beyond that the oldest ones that have asked for nothing are closed.
_MOST = 64
#: Seconds that a client has to send a whole command, or to take a reply.
_PATIENCE = 10.0
#: Seconds that the last replies have at the end.
_CLOSE_SECONDS = 1.0

_STRANGER = Reply(False, "only the user that runs the task, or root, can steer it")
_TOO_LONG = Reply(False, f"a command is a line of at most {MAX_BYTES} bytes")

Ask = Callable[[Command], "Future[Reply]"]


@contextmanager
def serving(path: Path, ask: Ask) -> Iterator[None]:
    """Take commands at ``path``; where no socket can be made, the task runs without."""
    try:
        listener = listen(path)
    except OSError as error:
        log.warning("shake control cannot reach this run: socket %s: %s", path, error.strerror)
        yield
        return
    made = os.stat(path)
    server = ControlServer(listener, ask)
    server.start()
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), made):
                path.unlink()


class Connection:
    """A client: what it has sent of a command, and what it has not taken of the replies."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.since = time.monotonic()  # when something last came or went
        self.received = bytearray()
        self.replies = bytearray()
        self.pending: Future[Reply] | None = None
        self.closing = False  # once the replies are taken

    @property
    def over(self) -> bool:
        """It is done, or it has sent no whole command for long, or does not take its reply."""
        late = self.pending is None and time.monotonic() - self.since > _PATIENCE
        return late or (self.closing and not self.replies)

    def say(self, reply: Reply, *, last: bool = False) -> None:
        self.replies += write_reply(reply)
        self.since = time.monotonic()
        self.closing |= last


class ControlServer(threading.Thread):
    """Serves all connections; never waits for one of them, or for the loop."""

    def __init__(self, listener: socket.socket, ask: Ask) -> None:
        super().__init__(name="control", daemon=True)
        self._listener = listener
        self._ask = ask
        self._over = threading.Event()
        self._connections: list[Connection] = []
        self._wake_in, self._wake_out = socket.socketpair()
        for one in (self._wake_in, self._wake_out):
            one.setblocking(False)

    def close(self) -> None:
        """Send the replies that are known by now; then end."""
        self._over.set()
        self._wake()
        self.join(2 * _CLOSE_SECONDS)

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._turn(1.0)
            until = time.monotonic() + _CLOSE_SECONDS
            self._advance()
            while any(one.replies for one in self._connections) and time.monotonic() < until:
                self._turn(0.05)
        except Exception:
            log.exception("shake control cannot reach this run any more")
        for one in self._connections:
            one.peer.close()
        self._listener.close()

    def _turn(self, seconds: float) -> None:
        """Wait for an event, and handle all that there are."""
        with selectors.DefaultSelector() as selector:
            if not self._over.is_set():
                selector.register(self._listener, selectors.EVENT_READ, self._accept)
            selector.register(self._wake_in, selectors.EVENT_READ, self._drain)
            for one in self._connections:
                self._watch(selector, one)
            for key, _ in selector.select(seconds):
                key.data()
        self._advance()

    def _watch(self, selector: selectors.BaseSelector, one: Connection) -> None:
        """Read what it sends, at least its end, and send on what it has not taken."""
        write = selectors.EVENT_WRITE if one.replies else 0
        selector.register(one.peer, selectors.EVENT_READ | write, lambda: self._serve(one))

    def _accept(self) -> None:
        """Accept those that wait, but no more than there can be at once."""
        for _ in range(_MOST):
            try:
                peer, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # it is gone already, or no file is left for it
                time.sleep(0.01)
                return
            peer.setblocking(False)
            one = Connection(peer)
            self._connections.append(one)
            if not is_trusted(peer):
                one.say(_STRANGER, last=True)

    def _serve(self, one: Connection) -> None:
        try:
            if one.replies:
                sent = one.peer.send(one.replies)
                del one.replies[:sent]
                one.since = time.monotonic()
            received = one.peer.recv(MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:  # the client is gone
            one.closing, one.pending = True, None
            one.replies.clear()
        one.received += received

    def _advance(self) -> None:
        """Take the replies that have come, ask for what was sent, and close what is over."""
        for one in self._connections:
            if one.pending and one.pending.done():
                one.say(one.pending.result())
                one.pending = None
            while not (one.closing or one.pending or one.replies) and b"\n" in one.received:
                self._begin(one)
            if len(one.received) > MAX_BYTES and not one.closing:
                one.say(_TOO_LONG, last=True)
        kept = [one for one in self._connections if not one.over]
        by_need = sorted(kept, key=lambda one: one.pending is not None)
        kept = by_need[max(0, len(kept) - _MOST) :]
        for one in self._connections:
            if one not in kept:
                one.peer.close()
        self._connections = kept

    def _begin(self, one: Connection) -> None:
        line, _, rest = bytes(one.received).partition(b"\n")
        one.received[:] = rest
        try:
            command = read_command(line)
        except ValueError as error:
            one.say(Reply(False, str(error)), last=True)
            return
        one.pending = self._ask(command)
        one.pending.add_done_callback(lambda _: self._wake())

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_out.send(b"\0")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_in.recv(4096):
                pass
