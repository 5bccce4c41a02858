"""Roles of children: the module that each runs, and its messages."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, get_args

from shake.process.messages import FromChild, Ping, Pong, Start
from shake.process.packing import Message, Packing

SetUp = TypeVar("SetUp", bound=Message)
Taken = TypeVar("Taken", bound=Message)
Sent = TypeVar("Sent", bound=Message)

#: The first message has one form for all roles.
START = Packing[Start]((Start,))


class Role(Generic[SetUp, Taken, Sent]):
    """A kind of child. ``Taken`` and ``Sent`` are its own messages, beside those of any child."""

    def __init__(self, module: str, set_up: type[SetUp], taken: object, sent: object) -> None:
        self.module = module
        self.set_up = Packing[SetUp]((set_up,))
        self.taken = Packing[Ping | Taken]((Ping, *_members(taken)))
        self.sent = Packing[Pong | FromChild | Sent]((Pong, *get_args(FromChild), *_members(sent)))


def _members(union: object) -> tuple[Any, ...]:
    return get_args(union) or (union,)
