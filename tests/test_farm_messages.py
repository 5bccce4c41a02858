"""Messages and their channels: whole or not at all, and never in the way of the supervisor."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.check.messages import CHECKER
from shake.farm import worker_messages, writer_messages
from shake.process.channel import ChildChannel, SupervisorChannel
from shake.process.messages import Log, Report
from shake.process.packing import Packing, unpacker
from shake.process.role import START

NUMBERS = st.integers(-1, 2**40)
# Whatever a server or a file name says may stand in a message, lone surrogates too.
TEXTS = st.text(max_size=40) | st.sampled_from(["\ud800", "a\udcff"])
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: NUMBERS,
    str: TEXTS,
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    bytes: st.binary(max_size=100),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of any type that a field of a message can have."""
    parts = get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is NoneType:
        return st.none()
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        return st.builds(hint, *map(values, get_type_hints(hint).values()))
    if get_origin(hint) in (Union, UnionType):
        return st.one_of(*map(values, parts))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if get_origin(hint) is Literal:
        return st.sampled_from(parts)
    if get_origin(hint) is dict:
        return st.dictionaries(*map(values, parts), max_size=5)
    if get_origin(hint) is tuple and Ellipsis not in parts:
        return st.tuples(*map(values, parts))
    return st.lists(values(parts[0]), max_size=3).map(tuple)


PACKINGS: dict[str, Packing[Any]] = {
    "start": START,
    "worker set-up": worker_messages.WORKER.set_up,
    "to worker": worker_messages.WORKER.taken,
    "from worker": worker_messages.WORKER.sent,
    "writer set-up": writer_messages.WRITER.set_up,
    "to writer": writer_messages.WRITER.taken,
    "from writer": writer_messages.WRITER.sent,
    "check set-up": CHECKER.set_up,
    "to check": CHECKER.taken,
    "from check": CHECKER.sent,
}
EACH = [(packing, type_) for packing in PACKINGS.values() for type_ in packing.types]
NAMES = [f"{name}: {one.__name__}" for name, packing in PACKINGS.items() for one in packing.types]
ANY = st.one_of(*map(values, worker_messages.WORKER.sent.types))


@contextlib.contextmanager
def pair() -> Iterator[tuple[SupervisorChannel[Any, Any, Any], socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield SupervisorChannel(ours, worker_messages.WORKER), theirs


@pytest.mark.parametrize(("packing", "type_"), EACH, ids=NAMES)
def test_every_message_arrives_as_it_was_sent(packing: Packing[Any], type_: type[Any]) -> None:
    @given(values(type_))
    @settings(max_examples=30)
    def check(message: Any) -> None:
        incoming = unpacker()
        incoming.feed(packing.encode(message))
        (arrived,) = map(packing.decode, incoming)
        assert arrived == message
        assert type(arrived) is type_
        # A value that is equal can still be of another type, as a tuple is of a named one.
        assert repr(arrived) == repr(message)

    check()


def received_to_the_end(channel: SupervisorChannel[Any, Any, Any]) -> list[Any]:
    received, alive = channel.receive()
    while alive:
        more, alive = channel.receive()
        received += more
    return received


@given(st.lists(ANY, max_size=6), st.data())
@settings(max_examples=100)
def test_a_stream_that_is_cut_anywhere_gives_the_whole_messages_before(
    sent: list[Any], data: st.DataObject
) -> None:
    parts = [worker_messages.WORKER.sent.encode(message) for message in sent]
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
        channel.send(Report())
        child.sendall(worker_messages.WORKER.sent.encode(worker_messages.Idle(1)))
        child.close()  # with the order unread, which resets the connection
        assert received_to_the_end(channel) == [worker_messages.Idle(1)]


def test_sending_to_a_child_that_reads_nothing_never_waits_and_keeps_the_order() -> None:
    with pair() as (channel, child):
        for number in range(100_000):
            channel.send(worker_messages.Free(number))
        assert channel.backlog > 0
        received = ChildChannel(child, worker_messages.WORKER).receive()
        reader = threading.Thread(
            target=lambda: seen.extend(next(received) for _ in range(100_000))
        )
        seen: list[Any] = []
        reader.start()
        while reader.is_alive():
            channel.flush()
        assert seen == [worker_messages.Free(number) for number in range(100_000)]
        assert channel.backlog == 0


def test_sending_to_a_dead_child_is_harmless_and_keeps_nothing() -> None:
    with pair() as (channel, child):
        child.close()
        for _ in range(3):
            channel.send(worker_messages.Drain())
        assert channel.backlog == 0
        assert channel.receive() == ([], False)
        channel.close()
        channel.send(worker_messages.Drain())
        assert channel.backlog == 0


def test_threads_of_a_child_never_mix_their_messages() -> None:
    with pair() as (channel, child):
        sender = ChildChannel(child, worker_messages.WORKER)

        def talk(scanner: int) -> None:
            for number in range(500):
                sender.send(Log(scanner, str(number), "x" * 500))

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
        channel.send(Report())
        channel.close()
        assert list(ChildChannel(child, worker_messages.WORKER).receive()) == [Report()]
