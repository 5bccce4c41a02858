"""Takes commands on the socket, in a separate thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any

from shake.control.address import is_trusted, listen
from shake.control.commands import MAX_BYTES, Command, Reply, read_command, write_reply

log = logging.getLogger("shake.control")

#: Connections at once. Beyond that the oldest one is closed, first of those that wait for nothing.
_MOST = 64
#: Seconds that a client has to send a whole command, or to take a reply.
_PATIENCE = 10.0
#: Seconds between two looks whether a client that waits for a reply is still there.
_LOOK_SECONDS = 1.0
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


class ControlServer(threading.Thread):
    """Serves all connections; never waits for one of them, or for the loop of the run."""

    def __init__(self, listener: socket, ask: Ask) -> None:
        super().__init__(name="control", daemon=True)
        self._listener = listener
        self._ask = ask
        self._over: Future[None] = Future()
        #: The reply that each client waits for; the oldest client first.
        self._clients: dict[asyncio.StreamWriter, asyncio.Future[Reply] | None] = {}

    def close(self) -> None:
        """Send the replies that are known by now; then end."""
        self._over.set_result(None)
        self.join(2 * _CLOSE_SECONDS)

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            log.exception("shake control cannot reach this run any more")
        self._listener.close()

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_exception_handler(_log_fault)
        server = await asyncio.start_server(self._connected, sock=self._listener, limit=MAX_BYTES)
        await asyncio.wrap_future(self._over)
        server.close()
        until = time.monotonic() + _CLOSE_SECONDS
        while any(map(_is_known, self._clients.values())) and time.monotonic() < until:
            await asyncio.sleep(0.05)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it has left, is refused, or has been silent for too long."""
        self._clients[writer] = None
        if len(self._clients) > _MOST:
            others = [one for one in self._clients if one is not writer]
            oldest = next((o for o in others if not _is_awaited(self._clients[o])), others[0])
            del self._clients[oldest]
            oldest.transport.abort()
        writer.transport.set_write_buffer_limits(0)  # so that drain waits for all
        try:
            trusted = is_trusted(writer.get_extra_info("socket"))
            await _send(writer, await self._obey(reader, writer) if trusted else _STRANGER)
        except (OSError, EOFError, asyncio.TimeoutError):  # the client has left, or is silent
            pass
        except asyncio.CancelledError:  # the end; Python 3.11 logs a task that is cancelled
            pass
        finally:
            self._clients.pop(writer, None)
            writer.transport.abort()

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Reply:
        """Carry out the commands of a client, until one is refused: by the reply."""
        while True:
            try:
                line = await asyncio.wait_for(reader.readuntil(), _PATIENCE)
                command = read_command(line)
            except asyncio.LimitOverrunError:
                return _TOO_LONG
            except ValueError as error:
                return Reply(False, str(error))
            self._clients[writer] = reply = asyncio.wrap_future(self._ask(command))
            # Not awaited itself: it would end with this client, and others can wait for it too.
            while not (await asyncio.wait([reply], timeout=_LOOK_SECONDS))[0]:
                if reader.at_eof() or writer.is_closing():
                    raise EOFError
            await _send(writer, reply.result())
            self._clients[writer] = None


def _is_known(reply: asyncio.Future[Reply] | None) -> bool:
    return reply is not None and reply.done()


def _is_awaited(reply: asyncio.Future[Reply] | None) -> bool:
    return reply is not None and not reply.done()


def _log_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A loop without descriptors has a hundred such faults a second, until it has some again."""
    log.debug("control: %s", context["message"])


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(write_reply(reply))
    await asyncio.wait_for(writer.drain(), _PATIENCE)
