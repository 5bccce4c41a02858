"""The watcher: asks the source about tables and streams beside the farm, in some threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Protocol

from shake.errors import RunError, ShakeError, Stopped
from shake.farm.farm import Farm
from shake.follow.table import FollowedTable
from shake.plan.origins import another_table, stream_difference
from shake.plan.plan import TablePlan
from shake.schema import Question
from shake.source.agreement import agreed
from shake.source.contract import Stream
from shake.source.streams import stream_loss
from shake.stream import suspicion
from shake.stream.listing import Listed
from shake.stream.shard import Shard
from shake.stream.suspicion import ShardAnswer

log = logging.getLogger("shake.farm")

#: Direct questions about shards of one table that are under way at once.
_THREADS = 8
#: Tables that are asked about at the same time, so that one slow stream does not delay the others.
_TABLES = 8


@dataclass(frozen=True, slots=True)
class View:
    """What the source says of a stream, asked at ``asked``, by ``time.monotonic``.

    ``loss`` is why the stream counts as gone, "" where it does not. ``listing`` is of all shards
    where ``whole``; ``answers`` are those to direct questions, by shard.
    """

    asked: float
    listing: list[Listed]
    whole: bool = True
    loss: str = ""
    answers: Mapping[str, ShardAnswer] = field(default_factory=dict)


class Views(Protocol):
    """Receives what the source says, in the loop."""

    def seen(self, followed: FollowedTable, view: View) -> None:
        """A stream was viewed."""

    def suspected(self, followed: FollowedTable, text: str) -> None:
        """The source table seems to be another one; it is asked again."""

    def trimmed(self, followed: FollowedTable, question: Question) -> None:
        """What follows the position of this question is trimmed."""


class StreamWatcher:
    """Asks the source, in separate threads.

    The questions about one table are asked one after the other, those about several tables at the
    same time.
    """

    def __init__(self, farm: Farm, views: Views) -> None:
        self._config, self._task, self._post = farm.config, farm.task, farm.loop.post
        self._source = farm.source
        self._views = views
        self._changed = threading.Condition()
        self._closed = False
        #: By table, and by name, in their order.
        self._questions: dict[str, dict[object, Callable[[], None]]] = {}
        self._due: dict[str, None] = {}  # tables that have questions, and no thread, in their order
        self._busy: set[str] = set()  # tables that have a thread

    def start(self) -> None:
        for number in range(_TABLES):
            threading.Thread(target=self._run, name=f"watcher-{number}", daemon=True).start()

    def look(self, followed: FollowedTable, parent: str = "") -> None:
        """View a stream: the children of a shard, or, without one, all shards and the table."""
        questions = followed.shards.questions()
        name = (followed, parent)
        self._put(followed.name, name, partial(self._look, followed, parent, questions))

    def probe(self, followed: FollowedTable, shard: Shard) -> None:
        """See whether what is unread of a shard is still there."""
        question = Question(shard.id, *shard.reached)
        name = (followed, question)
        self._put(followed.name, name, partial(self._probe, followed, question))

    def verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        """Call ``then`` in the loop if the source table is still the one that was copied.

        Else the task ends. To be asked when a table's scan has ended, before its collection counts
        as its copy.
        """
        self._put(plan.table.name, then, partial(self._verify, plan, then))

    def _put(self, table: str, name: object, question: Callable[[], None]) -> None:
        """Add a question, unless one of this name waits already."""
        with self._changed:
            self._questions.setdefault(table, {}).setdefault(name, question)
            if table not in self._busy:
                self._due[table] = None
                self._changed.notify()

    def close(self) -> None:
        """Ask nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while taken := self._take():
                table, question = taken
                question()
                self._done(table)
        except Stopped:
            pass
        except ShakeError as error:
            self._post(partial(self._task.fail, error))
        except Exception as error:  # without the watcher new shards would not be noticed
            log.debug("the watcher", exc_info=True)
            text = f"streams cannot be watched: unexpected {type(error).__name__}: {error}"
            self._post(partial(self._task.fail, RunError(text)))

    def _take(self) -> tuple[str, Callable[[], None]] | None:
        """A table, for the calling thread alone, and its next question; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._due or self._closed)
            if self._closed:
                return None
            table = next(iter(self._due))
            del self._due[table]
            self._busy.add(table)
            questions = self._questions[table]
            return table, questions.pop(next(iter(questions)))

    def _done(self, table: str) -> None:
        """A question is answered; the table's next one comes after those of other tables."""
        with self._changed:
            self._busy.discard(table)
            if self._questions[table]:
                self._due[table] = None
                self._changed.notify()

    def _probe(self, followed: FollowedTable, question: Question) -> None:
        if self._source.answer(followed.record.arn, question) is ShardAnswer.TRIMMED:
            self._post(partial(self._views.trimmed, followed, question))

    def _look(self, followed: FollowedTable, parent: str, questions: list[Question]) -> None:
        asked, arn = time.monotonic(), followed.record.arn
        children = self._source.list_children(arn, parent) if parent else None
        if children:
            view = View(asked, children, whole=False)
        else:
            on_suspicion = partial(self._views.suspected, followed)
            stream = self._same_table(followed.plan, arn, on_suspicion)
            loss = stream_loss(stream, arn)
            listing = self._source.look_at_shards(arn)
            if listing is None:
                view = View(asked, [], False, loss or f"its stream {arn} is gone")
            else:
                view = View(asked, listing, True, loss, self._ask_all(arn, questions))
        self._post(partial(self._views.seen, followed, view))

    def _ask_all(self, arn: str, questions: list[Question]) -> dict[str, ShardAnswer]:
        if not questions:
            return {}
        with ThreadPool(min(len(questions), _THREADS)) as threads:
            answers = threads.map(partial(self._source.answer, arn), questions)
        return {question.shard: one for question, one in zip(questions, answers, strict=True)}

    def _verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        self._same_table(plan, "", self._task.uncertain, "the source has no table of this name")
        self._post(then)

    def _same_table(
        self, plan: TablePlan, arn: str, on_suspicion: Callable[[str], None], absence: str = ""
    ) -> Stream | None:
        """The table's stream. Raises RunError where it is another table, by answers that agree.

        ``absence`` is the difference where there is no such table; "" is none.
        """
        name = plan.table.name

        def difference(stream: Stream | None) -> str:
            if stream is None:
                return absence
            return plan.identity.origin.difference(stream.table) or stream_difference(arn, stream)

        def ask_again(text: str) -> None:
            seems = f"table {name} seems to be another table than this task began with: {text}; "
            again = f"asking again for {suspicion.LOSS.seconds:g} s before the task ends"
            self._post(partial(on_suspicion, seems + again))

        look = partial(self._source.look_at_stream, name)
        stream = agreed(self._source, look, difference, suspicion.LOSS, ask_again)
        if text := difference(stream):
            raise RunError(another_table(self._config, name, text))
        return stream
