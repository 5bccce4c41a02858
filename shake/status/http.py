"""A small HTTP server for pages of our own: GET and HEAD, one bearer token, nothing from disk."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl, urlsplit

from shake.errors import RefusedError

log = logging.getLogger("shake.http")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route gives: the body, its content type, and the HTTP status."""

    body: bytes
    type: str = "text/plain; charset=utf-8"
    status: int = 200


#: The parameters of a request, by name.
Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """How a path is answered.

    ``open`` needs no token. ``stranger`` is the body for who comes without one: the status page,
    which holds no data and asks for the token.
    """

    answer: Callable[[Query], Answer]
    open: bool = False
    stranger: Callable[[], Answer] | None = None


class Server:
    """Serves ``routes`` from a daemon thread, as a context manager.

    ``key`` is the configuration key that the port comes from, for the error. Port 0 takes any free
    one; ``port`` tells which. Raises RefusedError when the address cannot be had.
    """

    def __init__(
        self, key: str, bind: str, port: int, token: str | None, routes: Mapping[str, Route]
    ) -> None:
        self._server = _listen(key, bind, port, token, routes)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name=key, daemon=True
        )

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def check_port(key: str, bind: str, port: int) -> None:
    """Raise RefusedError when a server could not be had there now."""
    _listen(key, bind, port, None, {}).server_close()


def _listen(
    key: str, bind: str, port: int, token: str | None, routes: Mapping[str, Route]
) -> _Listener:
    try:
        return _Listener(bind, port, token, routes)
    except OSError as error:
        raise RefusedError(
            f"{key}: cannot listen on {bind} port {port} ({error.strerror}); choose another "
            f"port or http.bind, or switch the page off with {key} = -1"
        ) from error


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, bind: str, port: int, token: str | None, routes: Mapping[str, Route]
    ) -> None:
        self.address_family = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0][0]
        self.token = token
        self.routes = routes
        super().__init__((bind, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the DNS for the host's name, which can take many seconds.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a connection of %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "shake", ""
    timeout = 15
    server: _Listener

    def do_GET(self) -> None:
        # A body would be taken for the next request of the connection.
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True
        url = urlsplit(self.path)
        self._reply(self._answer(url.path, dict(parse_qsl(url.query))))

    do_HEAD = do_GET

    def _refuse_method(self) -> None:
        self.close_connection = True
        self._reply(Answer(b"only GET and HEAD\n", status=405))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse_method

    def _answer(self, path: str, query: Query) -> Answer:
        route, token = self.server.routes.get(path), self.server.token
        if route is None or not route.open:
            if token and not self._knows_token(token):
                page = route.stranger() if route and route.stranger else _NEEDS_TOKEN
                return Answer(page.body, page.type, 401)
            if not token and not self._names_this_host():
                return Answer(b"without http.token, ask for the host by its address\n", status=403)
        if route is None:
            return Answer(b"no such page\n", status=404)
        try:
            return route.answer(query)
        except Exception:
            log.exception("%s could not be shown", path)
            return Answer(b"this page could not be made; see the log\n", status=500)

    def _knows_token(self, token: str) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        # http.server decodes headers as latin-1.
        same = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
        return same and scheme.lower() == "bearer"

    def _names_this_host(self) -> bool:
        """Whether the Host header is an address: another site's name that resolves here is not."""
        try:
            host = urlsplit("//" + self.headers.get("Host", "127.0.0.1")).hostname or ""
            return host == "localhost" or bool(ipaddress.ip_address(host))
        except ValueError:
            return False

    def _reply(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if answer.status == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="shake"')
        if answer.status == 405:
            self.send_header("Allow", "GET, HEAD")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug("%s " + format, self.address_string(), *args)


_NEEDS_TOKEN = Answer(b'send the header "Authorization: Bearer <http.token>"\n')

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
