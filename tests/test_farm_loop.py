"""The supervisor's loop: every event once, in order, and no work where there is no event."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from shake.farm import worker_messages as messages
from shake.process.channel import ChildChannel, SupervisorChannel
from shake.process.loop import Loop
from shake.process.messages import Log, Ready

encode = messages.WORKER.sent.encode


class Peer:
    """The near end of a channel, and all that was heard at it."""

    def __init__(self, loop: Loop) -> None:
        ours, self.far = socket.socketpair()
        self.channel = SupervisorChannel(ours, messages.WORKER)
        self.heard: list[Any] = []
        self.dead = 0
        loop.watch(self.channel, self)

    def read(self) -> bool:
        heard, alive = self.channel.receive()
        self.heard += heard
        return alive

    def disconnected(self) -> None:
        self.heard.append("died")
        self.dead += 1
        self.channel.close()


def run(loop: Loop, over: Callable[[], Any], deadline: float = 20.0) -> None:
    """Run until it is over; fails after ``deadline`` seconds."""
    late = time.monotonic() + deadline
    loop.later(deadline, lambda: None)
    loop.run(lambda: bool(over()) or time.monotonic() > late)
    assert over()


def test_timers_fire_in_the_order_of_their_times() -> None:
    loop = Loop()
    fired: list[str] = []
    for name, seconds in [("c", 0.03), ("a", 0.0), ("b", 0.01), ("d", 0.03)]:
        loop.later(seconds, partial(fired.append, name))
    run(loop, lambda: len(fired) == 4)
    assert fired == ["a", "b", "c", "d"]


def test_no_timer_fires_before_its_time() -> None:
    now = 100.0
    loop, fired = Loop(lambda: now), []
    loop.later(5.0, lambda: fired.append(now))

    def pass_time() -> None:
        nonlocal now
        now += 2.0
        loop.post(pass_time)

    loop.post(pass_time)
    loop.run(lambda: bool(fired))
    assert fired == [106.0]


def test_what_recurs_goes_on() -> None:
    loop, ticks = Loop(), []
    loop.every(0.005, lambda: ticks.append(loop.clock()))
    run(loop, lambda: len(ticks) >= 5)
    assert all(later - earlier >= 0.005 for earlier, later in itertools.pairwise(ticks))


def test_a_call_from_another_thread_wakes_the_loop_and_runs_in_it() -> None:
    loop = Loop()
    ran: list[int] = []

    def post() -> None:
        for _ in range(500):
            loop.post(lambda: ran.append(threading.get_ident()))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    run(loop, lambda: len(ran) == 2000)
    assert set(ran) == {threading.get_ident()}


def test_a_signal_is_handled_in_the_loop_and_its_old_handler_comes_back() -> None:
    loop, came = Loop(), []
    before = signal.getsignal(signal.SIGUSR1)
    with loop.signals([signal.SIGUSR1], lambda number: came.append((number, in_loop))):
        in_loop = False
        os.kill(os.getpid(), signal.SIGUSR1)
        assert came == []  # only queued
        in_loop = True
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        run(loop, lambda: len(came) == 2)
    assert came == [(signal.SIGUSR1, True)] * 2
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_peer_that_dies_has_its_whole_messages_heard_first_and_the_cut_one_never() -> None:
    loop = Loop()
    peer = Peer(loop)
    whole = [messages.Idle(number) for number in range(1000)]
    with peer.far as far:
        far.sendall(b"".join(map(encode, whole)))
        far.sendall(encode(Log(20, "x", "cut"))[:-1])
    run(loop, lambda: peer.dead)
    assert peer.heard == [*whole, "died"]


def test_a_forgotten_peer_is_not_heard_and_does_not_die() -> None:
    loop = Loop()
    peer, other = Peer(loop), Peer(loop)
    loop.forget(peer.channel)
    loop.forget(peer.channel)  # twice is harmless
    for each in (peer, other):
        each.far.sendall(encode(Ready()))
        each.far.close()
    run(loop, lambda: other.dead)
    assert peer.heard == []
    peer.channel.close()


def test_a_peer_that_closes_another_while_both_have_news_leaves_no_trace_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop()
    first, second = Peer(loop), Peer(loop)

    def close(one: Peer) -> Callable[[], bool]:
        def close_it() -> bool:
            loop.forget(one.channel)
            one.channel.close()
            return True

        return close_it

    monkeypatch.setattr(first, "read", close(second))
    monkeypatch.setattr(second, "read", close(first))
    for each in (first, second):
        each.far.sendall(encode(Ready()))
    ticks: list[int] = []
    loop.every(0.01, lambda: ticks.append(1))
    run(loop, lambda: len(ticks) > 3)
    assert first.dead + second.dead <= 1
    assert len(loop._peers) <= 1


def test_what_a_slow_peer_did_not_read_reaches_it_when_it_does() -> None:
    loop = Loop()
    peer = Peer(loop)
    sent = [messages.LeaseSegment(n, 0, 0, n, b"k" * 1000, 0) for n in range(2000)]
    for message in sent:
        peer.channel.send(message)
    assert peer.channel.backlog > 0
    got: list[Any] = []

    def read() -> None:
        received = ChildChannel(peer.far, messages.WORKER).receive()
        got.extend(next(received) for _ in sent)

    reader = threading.Thread(target=read)
    reader.start()
    run(loop, lambda: not peer.channel.backlog)
    reader.join(20)
    assert got == sent


@pytest.mark.parametrize("backlog", [False, True], ids=["idle", "with a peer that never reads"])
def test_where_nothing_happens_nothing_is_done(backlog: bool) -> None:
    loop = Loop()
    peers = [Peer(loop) for _ in range(10)]
    if backlog:
        while not peers[0].channel.backlog:
            peers[0].channel.send(messages.LeaseSegment(0, 0, 0, 0, b"x" * 10_000, 0))
    for peer in peers[1:]:  # the socket took something, and takes more at once
        peer.channel.send(messages.Free(1))
    rounds = itertools.count(1)
    end = time.monotonic() + 1.0
    loop.later(1.0, lambda: None)
    cpu = time.thread_time()
    loop.run(lambda: next(rounds) > 0 and time.monotonic() >= end)
    assert next(rounds) <= 6
    assert time.thread_time() - cpu < 0.05
