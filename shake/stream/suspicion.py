"""Absence is no proof: several answers must agree before something counts as missing.

Listings and descriptions are eventually consistent, so any single answer can be stale. No I/O, no
clock: answers go in, each with the time in seconds at which the source was asked for it.
Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DescribeTable.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Proof(NamedTuple):
    """What proves it: so many answers that agree, over so many seconds at least.

    The source is asked again ``every`` so many seconds.
    """

    answers: int
    seconds: float
    every: float


#: That a table, its stream or a shard is gone, and what was not applied with it.
LOSS = Proof(3, 60.0, 5.0)
#: That a parent was gone before following began, so that nothing of it is needed.
BEGINNING = Proof(3, 2.0, 0.5)
#: That a table is gone or another one, at a start or in a Scan: nothing is dropped then, so that
#: this needs no minute.
START = Proof(3, 2.0, 1.0)
#: What the source states by itself (TrimmedDataAccessException).
STATEMENT = Proof(2, 0.0, 0.5)


class ShardAnswer(Enum):
    """What GetShardIterator says of a shard, or of a position in it."""

    THERE = "there"
    GONE = "gone"
    TRIMMED = "trimmed"


@dataclass(slots=True)
class Suspicion:
    """Something that may be missing: ``answers`` said so, from ``first`` to ``last``."""

    text: str
    proof: Proof
    first: float
    last: float
    answers: int = 1

    @property
    def proved(self) -> bool:
        enough = self.answers >= self.proof.answers
        return enough and self.last - self.first >= self.proof.seconds


class Suspicions:
    """What may be missing, by name; one contrary answer clears a suspicion."""

    def __init__(self) -> None:
        self._open: dict[str, Suspicion] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._open

    def __iter__(self) -> Iterator[str]:
        return iter(self._open)

    def add(self, name: str, text: str, asked: float, proof: Proof) -> bool:
        """Take in an answer that says it is missing; return whether that is proved now.

        An answer that was not asked for later than the last one says nothing new.
        """
        known = self._open.get(name)
        if known is None or known.proof != proof:
            known = self._open[name] = Suspicion(text, proof, asked, asked)
        elif asked > known.last:
            known.text, known.last, known.answers = text, asked, known.answers + 1
        return known.proved

    def clear(self, name: str) -> None:
        """An answer says that it is there."""
        self._open.pop(name, None)

    def texts(self) -> list[str]:
        return [one.text for one in self._open.values()]
