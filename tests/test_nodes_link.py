"""Links between head and nodes: who gets one, and what anybody else at the port can do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from shake import __version__
from shake.errors import RefusedError, ShakeError, UsageError
from shake.nodes import hello, link
from shake.nodes.credentials import (
    Certificate,
    load_certificate,
    new_certificate,
    new_secret,
    read_secret,
)
from shake.nodes.link import Address, Link, Listener, connect
from tests.support.wait import until

SECRET = new_secret()
BIG = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return new_certificate()


@contextlib.contextmanager
def listening(certificate: Certificate, **more: Any) -> Iterator[Listener]:
    listener = Listener(Address("127.0.0.1", 0), SECRET, certificate, **more)
    try:
        yield listener
    finally:
        listener.close()


@pytest.fixture(scope="module")
def listener(certificate: Certificate) -> Iterator[Listener]:
    with listening(certificate) as started:
        yield started


def joined(listener: Listener, **more: Any) -> Link:
    """A link, at the side of the node."""
    return connect(Address("127.0.0.1", listener.port), SECRET, "n1", **more)


def pair(listener: Listener) -> tuple[Link, Link]:
    """Both sides of a link: the head's, the node's."""
    node = joined(listener)
    return listener.links.get(timeout=20), node


def closes(*links: Link) -> None:
    for one in links:
        one.stream.close()


def test_a_node_with_the_secret_gets_a_link_that_carries_data_both_ways(listener: Listener) -> None:
    head, node = pair(listener)
    assert (head.name, head.peer, node.name) == ("n1", "127.0.0.1", "n1")
    for sender, receiver in ((head, node), (node, head)):
        thread = threading.Thread(target=sender.stream.sendall, args=(BIG,))
        thread.start()
        received = bytearray()
        while len(received) < len(BIG):
            received += receiver.stream.recv(65536)
        thread.join()
        assert received == BIG
    head.stream.close()
    assert node.stream.recv(65536) == b""
    node.stream.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
def test_both_sides_notice_within_30_seconds_that_nothing_arrives(listener: Listener) -> None:
    links = pair(listener)
    for one in links:
        with socket.socket(fileno=os.dup(one.stream.fileno())) as connection:

            def value(option: int, of: socket.socket = connection) -> int:
                return of.getsockopt(socket.IPPROTO_TCP, option)

            assert value(socket.TCP_USER_TIMEOUT) == 30_000
            assert value(socket.TCP_KEEPIDLE) + 4 * value(socket.TCP_KEEPINTVL) == 30
            assert value(socket.TCP_KEEPCNT) == 4
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    closes(*links)


def test_a_link_never_blocks_a_loop_and_leaves_nothing_unseen(listener: Listener) -> None:
    """Both sides in one thread, as an event loop uses them: each only when a selector says so."""
    head, node = pair(listener)
    head.stream.setblocking(False)
    node.stream.setblocking(False)
    with pytest.raises(BlockingIOError):
        head.stream.recv(65536)
    left, received = bytearray(BIG), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(head.stream, selectors.EVENT_WRITE)
        selector.register(node.stream, selectors.EVENT_READ)
        while len(received) < len(BIG):
            ready = selector.select(5.0)
            assert ready, "data is there that no selector reports"
            for key, _ in ready:
                with contextlib.suppress(BlockingIOError):
                    if key.fd == node.stream.fileno():
                        received += node.stream.recv(65536)
                    else:
                        del left[: head.stream.send(left)]
            if not left and head.stream.fileno() in selector.get_map():
                selector.unregister(head.stream)
    assert received == BIG
    closes(head, node)


def test_another_secret_is_refused_and_is_not_shown(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    other = new_secret()
    with listening(certificate) as listener:
        with pytest.raises(RefusedError, match="has another secret") as refused:
            connect(Address("127.0.0.1", listener.port), other, "n1")
        until(lambda: "is refused" in caplog.text)
    for text in (str(refused.value), caplog.text):
        assert SECRET.decode() not in text
        assert other.decode() not in text


def test_a_node_that_does_not_know_the_secret_proves_nothing_to_the_head(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on although the head's proof is wrong for it: then the head refuses it."""
    with listening(certificate) as listener:
        tls = encrypted(listener)
        send(tls, hello.MAGIC, bytes(32))
        received(tls)
        send(tls, bytes(32), __version__.encode(), b"n1")
        assert tls.recv(1) == b""
        until(lambda: "it has another secret" in caplog.text)
        tls.close()


def test_a_proof_is_of_no_use_behind_another_certificate(certificate: Certificate) -> None:
    """A machine between both has its own certificate, and passes on each byte that it decrypts."""
    between = new_certificate()
    with (
        listening(certificate) as listener,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        passed = threading.Thread(target=pass_on, args=(server, between.context, listener))
        passed.start()
        with pytest.raises(RefusedError, match="has another secret"):
            connect(Address("127.0.0.1", server.getsockname()[1]), SECRET, "n1")
        passed.join()


def pass_on(server: socket.socket, context: ssl.SSLContext, listener: Listener) -> None:
    with (
        context.wrap_socket(server.accept()[0], server_side=True) as node,
        encrypted(listener) as head,
    ):
        head.sendall(node.recv(4096))
        node.sendall(head.recv(4096))


def test_each_link_has_a_proof_of_its_own(listener: Listener) -> None:
    """What was heard on one link opens no other one."""
    proofs = set()
    for _ in range(2):
        with encrypted(listener) as tls:
            send(tls, hello.MAGIC, bytes(32))
            proofs.add(received(tls)[1])
    assert len(proofs) == 2


# ---- anybody at the port


def encrypted(listener: Listener) -> ssl.SSLSocket:
    """A connection with TLS, on which nothing has been said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = socket.create_connection(("127.0.0.1", listener.port), timeout=20)
    return context.wrap_socket(connection)


def send(tls: ssl.SSLSocket, *fields: Any) -> None:
    packed = msgpack.packb(fields)
    tls.sendall(len(packed).to_bytes(4, "big") + packed)


def received(tls: ssl.SSLSocket) -> Any:
    size = int.from_bytes(tls.recv(4), "big")
    return msgpack.unpackb(tls.recv(size))


def ended(connection: socket.socket) -> bool:
    """Whether the head closes the connection, whatever it says before."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while connection.recv(4096):
            pass
    return True


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x04\x01" + b"x" * 1025,
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x05\xdd\xff\xff\xff\xff",
        b"\x00\x00\x03\xe8" + b"\x91" * 1000,
        b"GET / HTTP/1.1\r\nHost: head\r\n\r\n",
        b"\x00\x00\x00\x01\x90",
        b"\x00\x00\x00\x03\x92\x01\x02",
    ],
    ids=lambda said: repr(said[:8]),
)
def test_what_is_no_hello_ends_the_connection_at_once(listener: Listener, said: bytes) -> None:
    began = time.monotonic()
    with encrypted(listener) as tls:
        tls.sendall(said)
        assert ended(tls)
    assert time.monotonic() - began < link.HELLO_SECONDS
    closes(*pair(listener))


@settings(max_examples=60)
@given(said=st.binary(max_size=200), framed=st.booleans(), cut=st.booleans())
def test_no_bytes_bring_down_the_port(
    listener: Listener, said: bytes, framed: bool, cut: bool
) -> None:
    with encrypted(listener) as tls:
        tls.sendall((len(said).to_bytes(4, "big") if framed else b"") + said)
        if not cut:
            with contextlib.suppress(OSError):
                tls.shutdown(socket.SHUT_WR)
            assert ended(tls)
    closes(*pair(listener))


def test_a_plain_request_is_closed_and_logged_once(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(certificate) as listener:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", listener.port), timeout=20) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: head\r\n\r\n")
                assert ended(plain)
        closes(*pair(listener))
    lines = [line for line in caplog.messages if "is refused" in line]
    assert lines == [
        "a connection from 127.0.0.1 to the port for nodes is refused: it does not speak TLS"
    ]


def test_a_slow_hello_has_an_end_and_keeps_no_node_away(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HELLO_SECONDS", 1.0)
    with listening(certificate) as listener:
        silent = socket.create_connection(("127.0.0.1", listener.port), timeout=20)
        slow = encrypted(listener)
        frame = b"\x00\x00\x00\x20"
        for number in range(40):  # a byte now and then does not make the time longer
            try:
                slow.sendall(frame[number % 4 :][:1])
            except OSError:
                break
            if number == 5:
                closes(*pair(listener))
            time.sleep(0.05)
        else:
            pytest.fail("a slow hello goes on")
        assert ended(silent)
        silent.close()
        slow.close()


def test_one_address_cannot_use_up_all_hellos(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More connections of one address are closed at once; those of another one are not."""
    monkeypatch.setattr(link, "MAX_HELLOS_OF_ADDRESS", 3)
    with listening(certificate) as listener, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", listener.port)
        held = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(3)]
        with socket.create_connection(address, 20) as refused:
            assert ended(refused)
        with pytest.raises(ConnectionResetError):  # so a node tries again
            joined(listener)
        other = socket.create_connection(address, 20, source_address=("127.0.0.2", 0))
        stack.enter_context(other)
        other.settimeout(0.2)
        with pytest.raises(TimeoutError):  # it is waited for
            other.recv(1)
        for one in held:
            one.close()

        def admitted() -> bool:
            with contextlib.suppress(OSError):
                closes(*pair(listener))
                return True
            return False

        until(admitted)


def test_a_closed_listener_accepts_no_more(certificate: Certificate) -> None:
    with listening(certificate) as listener:
        head, node = pair(listener)
    assert listener.links.empty()
    with pytest.raises(OSError, match="refused"):
        joined(listener)
    node.stream.sendall(b"still here")
    assert head.stream.recv(65536) == b"still here"
    closes(head, node)


def test_a_port_that_is_taken_is_refused(certificate: Certificate) -> None:
    with (
        listening(certificate) as listener,
        pytest.raises(RefusedError, match=rf"127\.0\.0\.1:{listener.port}.*in use"),
    ):
        Listener(Address("127.0.0.1", listener.port), SECRET, certificate)


@pytest.mark.parametrize(
    ("said", "encrypts"), [(b"", False), (b"SSH-2.0-OpenSSH\r\n", False), (b"HTTP/1.1 400", True)]
)
def test_a_node_says_that_no_head_is_at_the_address_and_can_try_again(
    certificate: Certificate, said: bytes, encrypts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head can come later: another program has its port, or a balancer stands before it."""
    monkeypatch.setattr(link, "HELLO_SECONDS", 2.0)

    def answer() -> None:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(server.accept()[0])
            if encrypts:
                tls = certificate.context.wrap_socket(connection, server_side=True)
                connection = stack.enter_context(tls)
            connection.sendall(said)
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError) as refused:  # noqa: PT011
            connect(Address("127.0.0.1", server.getsockname()[1]), SECRET, "n1")
        thread.join()
    if said:
        assert "is no head of shake" in str(refused.value)


@settings(max_examples=30)
@given(said=st.binary(max_size=120), framed=st.booleans())
def test_a_node_ends_no_worse_than_refused_whatever_a_head_says(
    certificate: Certificate, said: bytes, framed: bool
) -> None:
    def answer() -> None:
        with certificate.context.wrap_socket(server.accept()[0], server_side=True) as tls:
            tls.recv(4096)
            tls.sendall((len(said).to_bytes(4, "big") if framed else b"") + said)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises((RefusedError, OSError)):
            connect(Address("127.0.0.1", server.getsockname()[1]), SECRET, "n1")
        thread.join()


# ---- certificate and secret


def test_a_certificate_of_the_user_is_used(tmp_path: Path) -> None:
    made = trustme.CA().issue_cert("head.example")
    for name, blob in (("cert", made.cert_chain_pems[0]), ("key", made.private_key_pem)):
        blob.write_to_path(tmp_path / name)
    with listening(load_certificate(tmp_path / "cert", tmp_path / "key")) as listener:
        closes(*pair(listener))
        with encrypted(listener) as tls:
            shown = tls.getpeercert(binary_form=True)
    assert shown
    der = ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
    assert hashlib.sha256(shown).digest() == hashlib.sha256(der).digest()


def no_file(folder: Path) -> str:
    return "No such file"


def no_pem(folder: Path) -> str:
    (folder / "cert").write_text("nothing")
    (folder / "key").write_text("nothing")
    return "PEM"


def with_password(folder: Path) -> str:
    from cryptography.hazmat.primitives import serialization as form

    made = trustme.CA().issue_cert("head.example")
    made.cert_chain_pems[0].write_to_path(folder / "cert")
    key = form.load_pem_private_key(made.private_key_pem.bytes(), None)
    password = form.BestAvailableEncryption(b"password")
    blob = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, password)
    (folder / "key").write_bytes(blob)
    return "encrypted"


@pytest.mark.parametrize("prepare", [no_file, no_pem, with_password], ids=lambda one: one.__name__)
def test_a_certificate_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, prepare: Callable[[Path], str]
) -> None:
    reason = prepare(tmp_path)
    with pytest.raises(RefusedError, match=reason):
        load_certificate(tmp_path / "cert", tmp_path / "key")


def secret_file(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_secret_is_read_of_its_file(tmp_path: Path) -> None:
    text = SECRET.decode()
    for mode in (0o600, 0o400, 0o440):
        assert read_secret(secret_file(tmp_path, f"{text}\n", mode)) == SECRET


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("x" * 64, 0o604, "chmod 600"),
        ("x" * 64, 0o620, "chmod 600"),
        ("x" * 31, 0o600, "shorter than 32"),
        ("", 0o600, "shorter than 32"),
        ("\udcff" * 64, 0o600, "UTF-8"),
    ],
)
def test_a_secret_that_others_can_read_or_guess_is_refused(
    tmp_path: Path, text: str, mode: int, reason: str
) -> None:
    path = secret_file(tmp_path, "", mode)
    Path(path).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ShakeError, match=reason) as refused:
        read_secret(path)
    assert "xxx" not in str(refused.value)


def test_a_secret_that_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "none")):
        with pytest.raises(UsageError, match=r"nodes\.secret_file|No such file"):
            read_secret(path)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("head:7070", Address("head", 7070)),
        ("10.0.0.1:0", Address("10.0.0.1", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        (":7070", Address("", 7070)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "head", "head:", "head:65536", "::1:7", "a b:7", "u@h:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not HOST:PORT"):
        Address.parse(text)
