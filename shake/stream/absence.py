"""What a stream no longer shows, though it should: late, done with, or lost.

Each method takes in an answer of the source, asked for at ``now``, in seconds of a clock that never
goes back. ``answer`` is that to a direct question, None where none was asked: without one nothing
counts as lost. Raises GapError where changes are lost.
"""

from __future__ import annotations

from collections.abc import Collection

from shake.errors import GapError
from shake.schema import Question
from shake.stream import suspicion
from shake.stream.shard import Shard, ShardState
from shake.stream.suspicion import ShardAnswer, Suspicions

_STREAM = ""  # stands for a name, which no shard has


class Absence:
    """The suspicions about one table's stream; ``table`` is for errors."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._losses = Suspicions()
        self._past = Suspicions()  # parents that may have been gone before following began
        self._finished = Suspicions()  # shards of which nothing more is needed
        self._awaited: set[str] = set()  # parents that are there, but not listed

    @property
    def names(self) -> list[str]:
        """The shards that are suspected to be lost."""
        return [name for name in self._losses if name != _STREAM]

    @property
    def texts(self) -> list[str]:
        """What is suspected to be lost, and what is waited for: one line each."""
        seconds = f"{suspicion.LOSS.seconds:g} s"
        return [
            *(
                f"{text}; asking again for {seconds} before it counts as lost changes"
                for text in self._losses.texts()
            ),
            *(f"shard {one} is there, but not listed; waiting for that" for one in self._awaited),
        ]

    def keep_to(self, names: Collection[str]) -> None:
        """Drop what is known of all other shards: the last listing says nothing about them."""
        for name in [one for one in self.names if one not in names]:
            self._losses.clear(name)
        self._awaited &= set(names)

    def judge_stream(self, text: str, now: float) -> None:
        """Of the stream as a whole: why it counts as gone, "" where it does not."""
        if not text:
            self._losses.clear(_STREAM)
        elif self._losses.add(_STREAM, text, now, suspicion.LOSS):
            raise GapError(self._table, text, question=Question())

    def was_read(self, shard: Shard) -> None:
        """Its reader got an answer: it is there, whatever listings say."""
        if not shard.suspected:
            self._losses.clear(shard.id)

    def is_past(self, parent: str, now: float, answer: ShardAnswer | None) -> bool:
        """Whether a parent that is not listed was gone before following began."""
        self._awaited.discard(parent)
        if answer is ShardAnswer.THERE:
            self._past.clear(parent)
            self._awaited.add(parent)
            return False
        agreed = self._past.add(parent, "", now, suspicion.BEGINNING)
        return agreed and answer is ShardAnswer.GONE

    def judge_parent(self, parent: str, now: float, answer: ShardAnswer | None) -> None:
        """A parent that is not listed, of a shard that came while the stream was followed."""
        self._awaited.discard(parent)
        if answer is ShardAnswer.THERE:
            self._losses.clear(parent)
            self._awaited.add(parent)
            return
        text = f"shard {parent}, which others follow, is not listed, and was not read"
        self._add_loss(parent, text, now, answer, Question(parent))

    def judge(self, shard: Shard, listed: bool, now: float, answer: ShardAnswer | None) -> bool:
        """Take in an answer about a known shard. Return True where nothing more is needed of it."""
        self._awaited.discard(shard.id)  # a listing has shown it since
        done = shard.state is ShardState.APPLIED or shard.fully_journaled
        if shard.suspected and answer is not ShardAnswer.THERE:
            if answer is not None:
                self._judge_suspected(shard, now, answer)
        elif listed or answer is ShardAnswer.THERE:
            shard.suspected = None
            self._losses.clear(shard.id)
            self._finished.clear(shard.id)
        elif done:
            self._losses.clear(shard.id)
            agreed = self._finished.add(shard.id, "", now, suspicion.LOSS)
            if agreed and shard.state is ShardState.APPLIED:
                self._finished.clear(shard.id)
                return True
        else:
            text = f"shard {shard.id} is not listed, and was not read to its end"
            self._add_loss(shard.id, text, now, answer, Question(shard.id))
        return False

    def _judge_suspected(self, shard: Shard, now: float, answer: ShardAnswer) -> None:
        shard.suspected = answer
        if answer is ShardAnswer.GONE:
            text = f"shard {shard.id}: ResourceNotFoundException, and it was not read to its end"
            self._add_loss(shard.id, text, now, answer, shard.question)
            return
        text = f"shard {shard.id}: TrimmedDataAccessException: what follows its position is trimmed"
        if self._losses.add(shard.id, text, now, suspicion.STATEMENT):
            raise GapError(self._table, text, question=shard.question)

    def _add_loss(
        self, name: str, text: str, now: float, answer: ShardAnswer | None, question: Question
    ) -> None:
        agreed = self._losses.add(name, text, now, suspicion.LOSS)
        if agreed and answer is ShardAnswer.GONE:
            raise GapError(self._table, text, question=question)
