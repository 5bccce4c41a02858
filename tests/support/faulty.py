"""A small HTTP server that speaks DynamoDB's JSON 1.0 protocol as badly as its script says."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson


@dataclass(frozen=True)
class Request:
    """One request as it arrived, whatever its method.

    Headers are in lower case; ``peer`` is the port of the connection's other end.
    """

    operation: str
    body: bytes
    headers: dict[str, str]
    peer: int


@dataclass(frozen=True)
class Reply:
    """One answer, and what goes wrong with it.

    The connection is closed after ``cut`` bytes of the body, or, with ``cut`` = -1, before the
    first byte of the head. ``crc`` stands in for the true checksum; ``slow`` seconds pass first.
    """

    body: bytes = b"{}"
    status: int = 200
    cut: int | None = None
    crc: int | None = None
    slow: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


def error(code: str, message: str = "as scripted", status: int = 400) -> Reply:
    """An error as DynamoDB words it."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    return Reply(orjson.dumps(body), status)


def throttled() -> Reply:
    return error("ProvisionedThroughputExceededException")


def dropped() -> Reply:
    return Reply(cut=-1)


def forward(url: str) -> Callable[[Request], Reply]:
    """Answer as the server at ``url`` does."""

    def answer(request: Request) -> Reply:
        names = ("authorization", "content-type", "x-amz-date", "x-amz-target")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, request.body, headers)
            ) as response:
                return Reply(response.read(), response.status)
        except urllib.error.HTTPError as failure:
            with failure:
                return Reply(failure.read(), failure.code)

    return answer


class Faulty:
    """The server: answers from ``script`` one by one, then always by ``otherwise``.

    Use it as a context manager; ``url`` is its address, ``requests`` what it was asked so far.
    ``clock`` is that of the ``Date`` of its answers, which is empty where it gives 0.
    """

    def __init__(
        self,
        script: Iterable[Reply] = (),
        otherwise: Callable[[Request], Reply] = lambda request: Reply(),
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self.requests: list[Request] = []
        self._script = iter(script)
        self._otherwise = otherwise
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Faulty:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            scripted = next(self._script, None)
        return self._otherwise(request) if scripted is None else scripted

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                operation = headers.get("x-amz-target", "").rpartition(".")[2]
                reply = faulty._next(Request(operation, body, headers, self.client_address[1]))
                faulty._closing.wait(reply.slow)
                with contextlib.suppress(OSError):  # the client may have given up
                    self._send(reply)

            do_GET = do_POST

            def date_time_string(self, timestamp: float | None = None) -> str:
                now = faulty._clock()
                return super().date_time_string(int(now)) if now else ""

            def _send(self, reply: Reply) -> None:
                self.close_connection = reply.cut is not None
                if reply.cut == -1:
                    return
                crc = zlib.crc32(reply.body) if reply.crc is None else reply.crc
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(reply.body)))
                self.send_header("x-amz-crc32", str(crc))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body[: reply.cut])

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
