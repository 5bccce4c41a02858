"""Messages and their channels: whole or not at all, and never in the way of the supervisor."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.farm import messages
from shake.process.channel import ChildChannel, SupervisorChannel

NUMBERS = st.integers(-1, 2**40)
# Whatever a server or a file name says may stand in a message, lone surrogates too.
TEXTS = st.text(max_size=40) | st.sampled_from(["\ud800", "a\udcff"])
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    int: NUMBERS,
    str: TEXTS,
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    str | None: st.none() | TEXTS,
    bytes | None: st.none() | st.binary(max_size=100),
    dict[str, str]: st.dictionaries(TEXTS, TEXTS, max_size=5),
    dict[str, Any]: st.dictionaries(TEXTS, st.lists(NUMBERS | TEXTS | st.none()), max_size=5),
    list[tuple[str, str]]: st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=3),
    list[tuple[int, int]]: st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=3),
    list[str]: st.lists(TEXTS, max_size=3),
    list[tuple[bytes, bytes]]: st.lists(
        st.lists(st.binary(min_size=12, max_size=12), min_size=2, max_size=2), max_size=5
    ),
}


def strategy(type_: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(type_, *(KINDS[hint] for hint in get_type_hints(type_).values()))


ANY = st.one_of(*map(strategy, messages._TYPES))


@contextlib.contextmanager
def pair() -> Iterator[tuple[SupervisorChannel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield SupervisorChannel(ours), theirs


def decoded(data: bytes) -> list[Any]:
    unpacker = messages.unpacker()
    unpacker.feed(data)
    return [messages.decode(fields) for fields in unpacker]


@pytest.mark.parametrize("type_", messages._TYPES, ids=lambda type_: type_.__name__)
def test_every_message_arrives_as_it_was_sent(type_: type[Any]) -> None:
    @given(strategy(type_))
    @settings(max_examples=30, deadline=None, derandomize=True)
    def check(message: Any) -> None:
        (arrived,) = decoded(messages.encode(message))
        assert arrived == message
        assert type(arrived) is type_

    check()


def received_to_the_end(channel: SupervisorChannel) -> list[Any]:
    received, alive = channel.receive()
    while alive:
        more, alive = channel.receive()
        received += more
    return received


@given(st.lists(ANY, max_size=6), st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_stream_that_is_cut_anywhere_gives_the_whole_messages_before(
    sent: list[Any], data: st.DataObject
) -> None:
    parts = [messages.encode(message) for message in sent]
    stream = b"".join(parts)
    end = data.draw(st.integers(0, len(stream)))
    cut = data.draw(st.integers(0, end))
    with pair() as (channel, child):
        child.sendall(stream[:cut])
        first, alive = channel.receive()
        assert alive
        child.sendall(stream[cut:end])
        child.close()
        rest = received_to_the_end(channel)
    whole = next(n for n in range(len(parts), -1, -1) if sum(map(len, parts[:n])) <= end)
    assert first + rest == sent[:whole]


def test_a_child_that_dies_with_orders_unread_has_its_messages_heard() -> None:
    with pair() as (channel, child):
        channel.send(messages.Report())
        child.sendall(messages.encode(messages.Idle(1)))
        child.close()  # with the order unread, which resets the connection
        assert received_to_the_end(channel) == [messages.Idle(1)]


def test_sending_to_a_child_that_reads_nothing_never_waits_and_keeps_the_order() -> None:
    with pair() as (channel, child):
        for number in range(100_000):
            channel.send(messages.Free(number))
        assert channel.backlog > 0
        received = ChildChannel(child).receive()
        reader = threading.Thread(
            target=lambda: seen.extend(next(received) for _ in range(100_000))
        )
        seen: list[Any] = []
        reader.start()
        while reader.is_alive():
            channel.flush()
        assert seen == [messages.Free(number) for number in range(100_000)]
        assert channel.backlog == 0


def test_sending_to_a_dead_child_is_harmless_and_keeps_nothing() -> None:
    with pair() as (channel, child):
        child.close()
        for _ in range(3):
            channel.send(messages.Drain())
        assert channel.backlog == 0
        assert channel.receive() == ([], False)
        channel.close()
        channel.send(messages.Drain())
        assert channel.backlog == 0


def test_threads_of_a_child_never_mix_their_messages() -> None:
    with pair() as (channel, child):
        sender = ChildChannel(child)

        def talk(scanner: int) -> None:
            for number in range(500):
                sender.send(messages.Log(scanner, str(number), "x" * 500))

        threads = [threading.Thread(target=talk, args=(scanner,)) for scanner in range(8)]
        for thread in threads:
            thread.start()
        heard: list[Any] = []
        while len(heard) < 8 * 500:
            heard += channel.receive()[0]
        for thread in threads:
            thread.join()
    for scanner in range(8):
        assert [m.logger for m in heard if m.level == scanner] == [str(n) for n in range(500)]


def test_a_child_reads_until_the_supervisor_is_gone() -> None:
    with pair() as (channel, child):
        channel.send(messages.Report())
        channel.close()
        assert list(ChildChannel(child).receive()) == [messages.Report()]
