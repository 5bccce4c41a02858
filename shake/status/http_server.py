"""A small HTTP server for pages of our own: one bearer token, nothing from disk.

It takes GET and HEAD, and POST where a route offers it.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from shake.errors import RefusedError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("shake.http")
logging.getLogger("waitress").setLevel(logging.ERROR)  # a client that is slow is no news

#: Bytes of a body at most.
MAX_BODY = 4096

#: Seconds in which the page of an earlier run, which has ended, makes room.
_ROOM_SECONDS = 3.0

#: Slow, idle and hostile clients cost no more than this. A body is refused where none is posted.
#: https://docs.pylonsproject.org/projects/waitress/en/stable/arguments.html
_LIMITS: dict[str, Any] = {
    "threads": 4,
    "connection_limit": 64,
    "channel_timeout": 15,  # seconds
    "cleanup_interval": 5,
    "max_request_header_size": 16 * 1024,
    "max_request_body_size": 1,
    "outbuf_overflow": 64 * 2**20,  # an answer never goes through a file
    "ident": None,
}


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a route gives: the body, its content type, and the HTTP status."""

    body: bytes
    type: str = "text/plain; charset=utf-8"
    status: int = 200


#: The parameters of a request: names and values in their order. A name can be repeated.
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Route:
    """How a path is answered, with a slash at its end or without one.

    ``open`` needs no token. ``unauthorized`` is the page for a request without one: the status
    page, which holds no data and asks for the token.
    """

    answer: Callable[[Query], HttpResponse]
    open: bool = False
    unauthorized: HttpResponse | None = None


#: How a body that is posted to a path as JSON is answered. The request needs the token, and the
#: header POST_HEADER with the value 1, which no form of another site can send.
Post = Callable[[bytes], HttpResponse]
POST_HEADER = "X-Shake-Control"


class Server:
    """Serves ``routes`` from separate threads, as a context manager.

    ``key`` is the configuration key that the port comes from, for the error. Port 0 takes any free
    one, which ``port`` gives. ``posts`` are for a server with a token. Raises RefusedError when the
    address is in use or not allowed.
    """

    def __init__(
        self,
        key: str,
        bind: str,
        port: int,
        token: str | None,
        routes: Mapping[str, Route],
        posts: Mapping[str, Post] | None = None,
    ) -> None:
        self._token = token
        self._routes = routes
        self._posts = posts or {}
        listener = _listen(key, bind, port)
        self.port: int = listener.getsockname()[1]
        self._sockets: dict[int, Any] = {}
        limits = _LIMITS | ({"max_request_body_size": MAX_BODY + 1} if posts else {})
        server = create_server(self._respond, map=self._sockets, sockets=[listener], **limits)
        assert isinstance(server, BaseWSGIServer)  # as it does for one socket
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=key, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.pull_trigger()
        self._thread.join()
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._sockets)

    def _serve(self) -> None:
        while not self._over.is_set():
            wasyncore.loop(timeout=1, use_poll=True, map=self._sockets, count=1)
            self._make_room()

    def _make_room(self) -> None:
        """Close connections that would keep others out.

        Those are clients that do not read their answers, and, where half of all connections are
        taken, the oldest ones that have not sent a whole request.
        """
        channels = [one for one in self._sockets.values() if isinstance(one, HTTPChannel)]
        waiting = sorted(
            (one for one in channels if not one.requests), key=lambda one: one.creation_time
        )
        late = time.time() - _LIMITS["channel_timeout"]
        unread = [one for one in channels if one.requests and one.total_outbufs_len]
        stalled = [one for one in unread if one.last_activity < late]
        too_many = max(0, len(channels) - _LIMITS["connection_limit"] // 2)
        for channel in (*stalled, *waiting[:too_many]):
            channel.handle_close()  # will_close waits until the client reads

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """The WSGI application."""
        method = environ["REQUEST_METHOD"]
        post = self._posts.get(environ["PATH_INFO"])
        allowed = "POST" if post else "GET, HEAD"
        if method not in allowed.split(", "):
            answer = HttpResponse(f"only {allowed}\n".encode(), status=405)
        else:
            answer = self._take(environ, post) if post else self._answer(environ)
        headers = {"Content-Type": answer.type, "Content-Length": str(len(answer.body)), **_HEADERS}
        if answer.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="shake"'
        if answer.status == 405:
            headers["Allow"] = allowed
        status = HTTPStatus(answer.status)
        start_response(f"{status.value} {status.phrase}", [*headers.items()])
        return [answer.body] if method != "HEAD" else []

    def _take(self, environ: WSGIEnvironment, post: Post) -> HttpResponse:
        """The answer to a POST, which must come from this page, or from a program."""
        if not self._is_allowed(environ):
            return _NEEDS_TOKEN
        if _is_foreign(environ):
            return HttpResponse(b"a request of another site is refused\n", status=403)
        if environ.get("HTTP_" + POST_HEADER.upper().replace("-", "_")) != "1":
            return HttpResponse(f"send the header {POST_HEADER}: 1\n".encode(), status=403)
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
            return HttpResponse(b"send the header Content-Type: application/json\n", status=403)
        try:
            return post(environ["wsgi.input"].read(MAX_BODY))
        except Exception:
            log.exception("%s could not be answered", environ["PATH_INFO"])
            return HttpResponse(b"this failed; see the log\n", status=500)

    def _answer(self, environ: WSGIEnvironment) -> HttpResponse:
        path = environ["PATH_INFO"]
        route = self._routes.get(path.removesuffix("/") or "/")
        if route is None or not route.open:
            if self._token and not self._is_allowed(environ):
                return replace((route and route.unauthorized) or _NEEDS_TOKEN, status=401)
            if not self._token and not _is_address(environ.get("HTTP_HOST", "127.0.0.1")):
                text = b"without http.token, ask for the host by its address\n"
                return HttpResponse(text, status=403)
        if route is None:
            return HttpResponse(b"no such page\n", status=404)
        try:
            return route.answer(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
        except Exception:
            log.exception("%s could not be shown", path)
            return HttpResponse(b"this page could not be made; see the log\n", status=500)

    def _is_allowed(self, environ: WSGIEnvironment) -> bool:
        """Whether the request has the token; none has where there is no token."""
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = (self._token or "").encode()
        # WSGI decodes headers as latin-1.
        same = hmac.compare_digest(given.strip().encode("latin-1"), token)
        return same and bool(token) and scheme.lower() == "bearer"


def check_port(key: str, bind: str, port: int) -> None:
    """Raise RefusedError when a server could not be had there now."""
    _listen(key, bind, port).close()


def _listen(key: str, bind: str, port: int) -> socket.socket:
    until = time.monotonic() + _ROOM_SECONDS
    while True:
        try:
            family = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0][0]
            both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
            return socket.create_server((bind, port), family=family, dualstack_ipv6=both)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                # Python appends the address.
                reason = (error.strerror or str(error)).split(" (while attempting")[0]
                raise RefusedError(
                    f"{key}: cannot listen on {bind} port {port} ({reason}); choose "
                    f"another port or http.bind, or switch the page off with {key} = -1"
                ) from error
        time.sleep(0.1)


def _is_foreign(environ: WSGIEnvironment) -> bool:
    """Whether a browser sends it for another site than the page's own.

    Source: https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin":
        return True
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:
        return False
    scheme, _, host = origin.partition("://")
    return scheme not in ("http", "https") or host != environ.get("HTTP_HOST", "")


def _is_address(host: str) -> bool:
    """Whether the Host header is an address: another site's name that resolves here is not."""
    try:
        name = urlsplit("//" + host).hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


_NEEDS_TOKEN = HttpResponse(b'send the header "Authorization: Bearer <http.token>"\n', status=401)

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
