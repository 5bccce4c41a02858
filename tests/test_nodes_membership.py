"""No epoch begins while a node can still write what belongs to the one before."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shake.nodes.membership import GRANT, MARGIN, PAUSES, SETTLE, Membership, State

RATES = st.sampled_from([0.85, 1.0, 1.15])
SECONDS = st.sampled_from([0.1, 1.0, SETTLE, GRANT / 2, GRANT, GRANT + MARGIN])


@dataclass
class Node:
    """What really happens on a node. Its clock runs at ``rate``, from another beginning."""

    number: int
    rate: float
    epoch: int = 0  # of its children, 0: it has none
    until: float = 0.0  # they write until then, on the node's clock
    connected: bool = True
    frozen: bool = False
    leaves: bool = False
    sent: list[tuple[str, Any]] = field(default_factory=list)  # to the head, kept to be doubled
    coming: list[tuple[str, Any]] = field(default_factory=list)  # from the head

    def clock(self, now: float) -> float:
        return 1000.0 * self.number + now * self.rate

    def writes(self, now: float) -> bool:
        return bool(self.epoch) and self.clock(now) < self.until


class Cluster(RuleBasedStateMachine):
    """Nodes and a head, with connections that delay, double and lose what is sent."""

    nodes = Bundle("nodes")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.members = Membership[int]()
        self.all: list[Node] = []
        self.open = False

    @rule(target=nodes, rate=RATES)
    def join(self, rate: float) -> Node:
        node = Node(len(self.all) + 1, rate)
        self.all.append(node)
        self.members.join(node.number, f"n{node.number}", f"m{node.number % 3}", self.now)
        return node

    @initialize(target=nodes, rates=st.tuples(RATES, RATES))
    def begin_with_two(self, rates: tuple[float, float]) -> MultipleResults[Node]:
        nodes = [cast(Node, self.join(rate)) for rate in rates]
        self.begin()
        for node in nodes:
            self.all_is_heard(node)
            self.all_is_heard(node)
        return cast(MultipleResults[Node], multiple(*nodes))

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        """The head looks at its nodes often."""
        self.now += seconds
        if self.open:
            self.look()
        else:
            self.begin()

    # ---- nodes

    @rule(node=nodes)
    def ask(self, node: Node) -> None:
        if node.connected and not node.frozen:
            node.sent.append(("ask", node.clock(self.now)))

    @rule(node=nodes)
    def all_is_heard(self, node: Node) -> None:
        """The node works as it should, for a moment."""
        self.ask(node)
        for _ in list(node.sent):
            self.head_hears(node, 0, again=False)
        for _ in list(node.coming):
            self.node_hears(node)

    @rule(node=nodes, number=st.integers(0, 5), again=st.booleans())
    def head_hears(self, node: Node, number: int, again: bool) -> None:
        """One of the last messages reaches the head, and maybe once more later."""
        if not node.connected or not node.sent:
            return
        number = min(number, len(node.sent) - 1)
        kind, value = node.sent[number] if again else node.sent.pop(number)
        if kind == "ask":
            if seconds := self.members.ask(node.number, self.now):
                node.coming.append(("grant", value + seconds))
        else:
            self.members.confirm(node.number, value)

    @rule(node=nodes)
    def node_hears(self, node: Node) -> None:
        """The next message reaches the node."""
        if not node.connected or node.frozen or not node.coming:
            return
        kind, value = node.coming.pop(0)
        if kind == "begin":
            node.epoch, node.until = value, 0.0
        elif kind == "end":
            node.epoch = 0
            node.sent.append(("ended", value))
        elif node.epoch:
            node.until = max(node.until, value)

    @rule(node=nodes, frozen=st.booleans())
    def freeze(self, node: Node, frozen: bool) -> None:
        node.frozen = frozen

    @rule(node=nodes)
    def cut(self, node: Node) -> None:
        """The connection ends: the head notices, the node maybe only when its time runs out."""
        node.connected = False
        self.members.cut(node.number, self.now)

    @rule(node=nodes)
    def leave(self, node: Node) -> None:
        if node.connected:
            node.leaves = True
            self.members.leave(node.number, self.now)

    @precondition(lambda self: self.open)
    @rule(node=nodes)
    def set_aside(self, node: Node) -> None:
        if self.members.set_aside(node.number, "it cannot reach the source", self.now):
            assert self.members.state(node.number, self.now) is not State.MEMBER

    # ---- the head

    def look(self) -> None:
        why, lost = self.members.change(self.now)
        for node in self.all:
            if node.number in lost:
                assert not node.writes(self.now)
                node.connected = False
        if why:
            self.end()

    @precondition(lambda self: self.open)
    @rule()
    def end(self) -> None:
        self.open = False
        self.members.end()
        for node in self.all:
            if node.number in self.members.members and node.connected:
                node.coming.append(("end", self.members.epoch))

    def begin(self) -> None:
        if not self.members.over(self.now) or not self.members.ready(self.now):
            return
        for node in self.all:
            assert not node.writes(self.now), node
        started = self.members.begin(self.now)
        self.open = True
        for node in self.all:
            if node.number in started:
                assert node.connected
                node.coming.append(("begin", self.members.epoch))
            elif node.number in self.members.members or not self.members.state(
                node.number, self.now
            ):
                node.connected = False

    @invariant()
    def a_node_that_can_write_is_a_member(self) -> None:
        for node in self.all:
            if node.writes(self.now):
                assert node.epoch == self.members.epoch
                working = (State.MEMBER, State.LEAVING, State.CUT, State.ASIDE)
                assert self.members.state(node.number, self.now) in working

    def teardown(self) -> None:
        """Whatever was lost: after a while another epoch can begin."""
        self.members.end()
        assert self.members.over(self.now + GRANT + MARGIN)
        later = self.now + GRANT + MARGIN + PAUSES.longest
        staying = [node.number for node in self.all if not node.leaves]
        joined = [one for one in staying if self.members.state(one, later) is State.JOINED]
        assert set(joined) <= set(self.members.begin(later))


def test_no_epoch_begins_while_a_node_can_write() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Cluster,
        settings=settings(max_examples=100, stateful_step_count=40),
    )


def test_a_silent_node_is_lost_within_25_seconds_and_a_join_waits_for_that() -> None:
    members = Membership[int]()
    members.join(1, "a", "m1", 0.0)
    members.join(2, "b", "m2", 0.0)
    assert members.begin(0.0) == [1, 2]
    assert members.ask(1, 10.0) == members.ask(2, 10.0) == GRANT
    members.cut(2, 10.0)
    members.join(3, "b", "m3", 0.0)
    assert members.ask(1, 20.0) == GRANT
    assert members.change(34.9) == ("", [])
    assert members.change(34.9, wanted=False) == ("", [])
    assert members.change(35.0) == ("lost: b", [2])
    members.end()
    assert not members.over(35.0)
    members.confirm(1, 1)
    assert members.over(35.0)
    assert members.begin(35.0) == [1, 3]


def test_a_grant_lasts_no_longer_than_the_task_lock() -> None:
    members = Membership[int]()
    members.join(1, "a", "m1", 0.0)
    members.begin(0.0)
    assert members.ask(1, 1.0, 7.5) == 7.5
    assert members.ask(1, 9.0, -1.0) == 0.0


def test_a_confirmation_of_an_earlier_epoch_that_comes_late_counts_for_nothing() -> None:
    members = Membership[int]()
    members.join(1, "a", "m1", 0.0)
    for _ in range(2):
        members.begin(0.0)
        members.end()
        members.confirm(1, 1)
    assert not members.over(0.0)
    members.confirm(1, 2)
    assert members.over(0.0)


def test_a_node_that_joins_ends_no_epoch_in_which_nothing_is_left_for_it() -> None:
    members = Membership[int]()
    members.join(1, "a", "m1", 0.0)
    members.begin(0.0)
    members.join(2, "b", "m2", 0.0)
    members.ask(1, SETTLE)
    assert members.change(SETTLE, wanted=False) == ("", [])
    assert members.change(SETTLE) == ("joined: b", [])


def test_a_node_that_crashes_again_and_again_keeps_the_others_from_work_ever_less_often() -> None:
    """It joins again a second after each crash."""
    members = Membership[int]()
    members.join(1, "good", "m1", 0.0)
    members.join(2, "bad", "m2", 0.0)
    began, now, number = {2: 0.0}, 0.0, 2
    members.begin(now)
    while len(began) < 7:
        now += 1.0
        members.ask(1, now)
        if members.state(number, now) is State.MEMBER:
            members.cut(number, now)
            number += 1
            members.join(number, "bad", "m2", now)
        if members.change(now)[0]:
            members.end()
            members.confirm(1, members.epoch)
            if number in members.begin(now):
                began[number] = now
    pauses = [later - before for before, later in itertools.pairwise(began.values())]
    assert pauses == [25, 35, 61, 121, 241, 481]


def test_a_node_that_cannot_do_its_work_is_in_no_further_epoch_for_a_while() -> None:
    members = Membership[int]()
    for number, name in enumerate("ab", 1):
        members.join(number, name, name, 0.0)
    assert members.begin(0.0) == [1, 2]
    assert members.set_aside(2, "its disk is full", 20.0)
    assert members.change(20.0) == ("set aside: b", [])
    assert not members.set_aside(1, "so is mine", 20.0)
    members.end()
    for number in (1, 2):
        members.confirm(number, 1)
    assert members.begin(21.0) == [1]
    assert members.why_aside(2, 21.0) == "node b is set aside for 60 s: its disk is full"
    assert members.state(2, 21.0) is State.ASIDE
    members.ask(1, 79.0)
    assert members.change(79.0) == ("", [])
    assert members.change(80.0, wanted=False) == ("joined: b", [])
    members.end()
    members.confirm(1, 2)
    assert members.begin(80.0) == [1, 2]
    assert members.set_aside(2, "its disk is full", 90.0)
    assert members.why_aside(2, 90.0) == "node b is set aside for 120 s: its disk is full"


def test_a_node_is_not_blamed_for_time_that_the_head_cannot_grant() -> None:
    members = Membership[int]()
    for number in (1, 2):
        members.join(number, f"n{number}", f"m{number}", 0.0)
    members.begin(0.0)
    for now in (5.0, 7.0):
        for number in (1, 2):
            assert members.ask(number, now, -1.0) == 0.0
            assert members.deny(number) is (now == 5.0)  # said once
    members.cut(1, 8.0)
    assert members.change(GRANT + MARGIN)[1] == [1, 2]
    for number in (3, 4):  # the same, for the second time
        members.join(number, "n", f"m{number - 2}", 30.0)
        members.cut(number, 30.0)
        members.join(number, "n", f"m{number - 2}", 30.0)
        assert members.why_aside(number, 30.0) == ""


def test_a_node_that_was_lost_often_works_at_once_where_no_other_one_is_left() -> None:
    members = Membership[int]()
    for number in range(1, 3):
        members.join(number, "a", "a", 0.0)
        members.cut(number, 0.0)
    members.join(3, "a", "a", 0.0)
    assert members.why_aside(3, 0.0).startswith(
        "node a is set aside for 30 s: it was lost or has left 2 times of late"
    )
    assert members.begin(0.0) == [3]
    assert members.why_aside(3, 0.0) == ""
