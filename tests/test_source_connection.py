"""The connection receives every kind of answer, however it is cut, into a buffer that is reused."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from shake.source.connection import Buffer, Connection, ConnectionBroken

BODY = b'{"Items":[' + b"1," * 150_000 + b"2]}"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Amz-Crc32: 7\r\n\r\n%b" % (len(BODY), BODY)

Talk = Callable[[socket.socket], None]


class Server:
    """Takes connections one after the other; ``talk`` has each of them to itself."""

    def __init__(self, talk: Talk, context: ssl.SSLContext | None = None) -> None:
        self._talk = talk
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                taken, _ = self._listener.accept()
                self.accepted += 1
                with contextlib.suppress(OSError), taken:
                    if self._context:
                        with self._context.wrap_socket(taken, server_side=True) as secured:
                            self._talk(secured)
                    else:
                        self._talk(taken)

    def close(self) -> None:
        self._listener.close()


def read_request(peer: socket.socket) -> bytes:
    """One request, head and body; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = peer.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(*pieces: bytes, pause: float = 0.0, then_close: bool = False) -> Talk:
    """Answer every request by these bytes, sent one by one."""

    def talk(peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while read_request(peer):
            for piece in pieces:
                peer.sendall(piece)
                if pause:
                    time.sleep(pause)
            if then_close:
                return

    return talk


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(talk: Talk, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(talk, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context, and the file of its authority's certificate."""
    made, file = trustme.CA(), tmp_path_factory.mktemp("tls") / "ca.pem"
    made.cert_pem.write_to_path(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(context)
    return context, file


def ask(connection: Connection, buffer: Buffer) -> bytes:
    connection.send({"X-Amz-Target": "T"}, b"{}")
    answer = connection.receive(buffer)
    assert answer.status == 200
    assert answer.body[-1] == 0
    return bytes(answer.body[:-1])


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:], b"")
)
ANSWERS = {
    "whole": (PLAIN,),
    "byte by byte in the head": (*(PLAIN[i : i + 1] for i in range(60)), PLAIN[60:]),
    "the head alone": (PLAIN[: PLAIN.index(b"{")], PLAIN[PLAIN.index(b"{") :]),
    "body in small pieces": tuple(PLAIN[i : i + 5000] for i in range(0, len(PLAIN), 5000)),
    "all but the last byte": (PLAIN[:-1], PLAIN[-1:]),
    "in chunks": (CHUNKED,),
    "in chunks, cut": (CHUNKED[:50], CHUNKED[50:51], CHUNKED[51:70], CHUNKED[70:]),
    "behind a 100 Continue": (b"HTTP/1.1 100 Continue\r\n\r\n", PLAIN),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("pieces", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_arrives_whole_however_it_is_cut_and_the_connection_is_kept(
    serve: Callable[..., Server],
    authority: tuple[ssl.SSLContext, Path],
    pieces: tuple[bytes, ...],
    tls: bool,
) -> None:
    context, file = authority
    server = serve(answering(*pieces, pause=0.001), context if tls else None)
    url = f"http{'s' * tls}://127.0.0.1:{server.port}/"
    connection, buffer = Connection(url, 10.0, str(file)), Buffer()
    for _ in range(3):
        assert ask(connection, buffer) == BODY
        assert connection.alive
    assert server.accepted == 1
    connection.close()


def test_an_answer_up_to_the_end_of_the_connection_is_taken_and_no_other_follows(
    serve: Callable[..., Server],
) -> None:
    server = serve(answering(b"HTTP/1.0 200 OK\r\n\r\n" + BODY, then_close=True))
    connection = Connection(f"http://127.0.0.1:{server.port}/", 10.0, "")
    assert ask(connection, Buffer()) == BODY
    assert not connection.alive
    connection.close()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: Close", b"HTTP/1.0 200 OK"])
def test_a_connection_that_the_server_will_close_is_not_used_again(
    serve: Callable[..., Server], head: bytes
) -> None:
    server = serve(answering(head + b"\r\nContent-Length: 2\r\n\r\n{}"))
    connection = Connection(f"http://127.0.0.1:{server.port}/", 10.0, "")
    assert ask(connection, Buffer()) == b"{}"
    assert not connection.alive
    connection.close()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "was closed before the answer began"),
        (PLAIN[:20], "was closed before the answer began"),
        (PLAIN[:-1], f"was closed after {len(BODY) - 1} of {len(BODY)} bytes"),
        (CHUNKED[:5000], "broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
        (b"x" * 200_000, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 15 + b"\r\n\r\n{}", "9 bytes, and no"),
    ],
)
def test_what_is_cut_or_no_answer_is_broken(
    serve: Callable[..., Server], sent: bytes, words: str
) -> None:
    server = serve(answering(sent, then_close=True))
    connection = Connection(f"http://127.0.0.1:{server.port}/", 10.0, "")
    with pytest.raises(ConnectionBroken, match=words):
        ask(connection, Buffer())
    connection.close()


@pytest.mark.parametrize("length", [b"9" * 9000, "²".encode("latin-1"), b"-1", b"many"])
def test_a_length_that_is_no_number_is_not_believed(
    serve: Callable[..., Server], length: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n"
    server = serve(answering(head + b"{}", then_close=True))
    connection = Connection(f"http://127.0.0.1:{server.port}/", 10.0, "")
    assert ask(connection, Buffer()) == b"{}"
    connection.close()


#: Answers without an end: a head, and what follows it again and again.
ENDLESS = {
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "one chunk": (b"Transfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n", b"x" * 65536),
    "trailers": (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10_000),
    "a body": (b"Connection: close\r\n\r\n", b"x" * 65536),
    "a long body": (b"Content-Length: 68719476736\r\n\r\n", b"x" * 65536),
    "informational answers": (b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


@pytest.mark.parametrize(("head", "more"), ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_an_end_takes_no_more_than_64_megabytes(
    serve: Callable[..., Server], head: bytes, more: bytes
) -> None:
    def talk(peer: socket.socket) -> None:
        read_request(peer)
        status = b"100 Continue" if head == b"\r\n" else b"200 OK"
        peer.sendall(b"HTTP/1.1 " + status + b"\r\n" + head)
        while True:
            peer.sendall(more)

    connection = Connection(f"http://127.0.0.1:{serve(talk).port}/", 10.0, "")
    buffer = Buffer()
    with pytest.raises(ConnectionBroken, match="answer of DynamoDB"):
        ask(connection, buffer)
    assert len(buffer.view) < 200_000
    connection.close()


@pytest.mark.parametrize(
    "proxy", ["http://user:hush@127.0.0.1:port", "http://user:hu/sh@h:1", "http://[hush]:1"]
)
def test_a_proxy_that_cannot_be_read_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ConnectionBroken, match="check the proxy of the environment") as caught:
        Connection("http://192.0.2.1/", 0.2, "")
    assert "hu" not in str(caught.value)


@pytest.mark.parametrize("sent", [b"", PLAIN[:100], PLAIN[:-1]])
def test_silence_ends_when_the_time_is_over(serve: Callable[..., Server], sent: bytes) -> None:
    connection = Connection(f"http://127.0.0.1:{serve(answering(sent)).port}/", 0.2, "")
    with pytest.raises(ConnectionBroken, match=r"no byte came for 0\.2 s"):
        ask(connection, Buffer())
    connection.close()


def test_a_server_that_cannot_prove_who_it_is_is_not_spoken_to(
    serve: Callable[..., Server], authority: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    context, _ = authority
    stranger = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    server = serve(answering(PLAIN), context)
    for file in ("", str(stranger)):
        with pytest.raises(ConnectionBroken, match="CERTIFICATE_VERIFY_FAILED"):
            Connection(f"https://127.0.0.1:{server.port}/", 10.0, file)


def test_tls_goes_through_the_proxy_of_the_environment_with_its_password(
    serve: Callable[..., Server],
    authority: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, file = authority
    asked: list[bytes] = []

    def tunnel(peer: socket.socket) -> None:
        asked.append(read_request(peer))
        peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(peer, server_side=True) as inner:
            answering(PLAIN)(inner)

    proxy = serve(tunnel)
    monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    connection = Connection("https://127.0.0.1:9/", 10.0, str(file))
    assert ask(connection, Buffer()) == BODY
    connection.close()
    assert asked[0].startswith(b"CONNECT 127.0.0.1:9 HTTP/1.")
    assert b"Basic " + base64.b64encode(b"user:p@ss") in asked[0]
