"""Reads one shard of a stream: asks for records, asks again, and finds out where its tip is."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import orjson

from shake import codec
from shake.clock import boot_clock
from shake.errors import ItemError, SourceError, Stopped
from shake.farm import worker_messages as messages
from shake.limits import BURST, Bucket
from shake.process import entry as child
from shake.source.answer import EXPIRED_ITERATOR, NOT_FOUND, TRIMMED
from shake.source.client import BACKOFF
from shake.source.clock import EPOCH
from shake.source.connection import Buffer
from shake.source.contract import WorkerSource
from shake.stream.journal import Damaged
from shake.stream.shard import NO_ITERATOR, TipIterator, as_number
from shake.stream.tip import Silence
from shake.worker.context import WorkerContext

#: Seconds between two calls for a shard without news: at first, doubling, and at most. Each call
#: is billed as half a read unit. A change is to arrive in a fraction of a second, and a tip takes
#: TIP_AFTER calls.
FIRST_PAUSE, LONGEST_IDLE = 0.05, 0.15
#: The same for a quiet shard: one that has been at its tip for QUIET_AFTER seconds, unless
#: messages.PollQuickly says otherwise. Its tip is known some seconds late.
QUIET_PAUSE = 0.9

#: Records of an answer from which on the next is asked for at once.
_BUSY = 0.5

#: Seconds, of the source's time, by which a tip must have moved before it is reported again.
_TIP_EVERY = 0.2

#: Seconds after which an answer that ends the shard is asked for again: one can be false, and then
#: changes would be lost for good.
END_AGAIN = 0.2

#: Tries before a shard counts as gone. AWS might not know a newly listed shard everywhere yet.
_GONE_AFTER = 5


@dataclass(slots=True)
class FollowedStream:
    """A table's stream as a worker needs it.

    ``since`` and ``options`` can change while it is read.
    """

    name: str
    arn: str
    since: float
    options: codec.ChangeOptions


class Reader(threading.Thread):
    """Reads a leased shard until the shard ends, the reader is stopped, or records are missing.

    Subclasses decide what happens to the records.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
    """

    def __init__(
        self, context: WorkerContext, lease: messages.LeaseShard, stream: FollowedStream
    ) -> None:
        super().__init__(name=f"shard-{lease.shard}", daemon=True)
        self._ended = threading.Event()
        self._at_once = False  # see end
        self._lease = lease
        self._stream = stream
        self._context = context
        self._source: WorkerSource = context.source
        self._send = context.channel.send
        self._file = context.journal.file(stream.name, lease.shard)
        self._arena = context.arena
        self._slots = context.slots
        self._last_reported_tip = 0.0  # the last tip that was reported, in local time
        self._calls = Bucket(context.config.qps_incr, time.monotonic(), BURST)
        self._limit = context.config.qps_incr_batch_num
        self._buffer = Buffer()
        self._sequence = lease.sequence if lease.start else ""  # read the stream on behind it
        self._position = lease.sequence  # of the last record that is applied, or in the journal
        self._next = lease.iterator.text
        self._last = ""  # the iterator that has said, once, that the shard is over
        self._corrupt = self._gone = 0  # answers of these kinds, in a row
        self._silence = Silence()
        if self._next:
            _, asked, since = lease.iterator
            self._silence = Silence(cold=0, last=asked, since=since)

    def end(self, *, at_once: bool) -> None:
        """Have it read no further; ``at_once``: even if the tip is not known yet."""
        self._at_once = at_once
        self._ended.set()
        self._slots.wake()

    def run(self) -> None:
        with child.guarded(self._context.channel):
            self._context.reads(self._lease.table)
            over = False
            try:
                over = self._serve()
            except ItemError as error:
                raise error.of_table(self._stream.name) from error
            except Damaged as error:
                self._send(messages.ShardGap(self._lease.lease, "damaged", f"the journal {error}"))
                return
            except SourceError as error:
                if error.code not in (TRIMMED, NOT_FOUND):
                    raise error.of_table(self._stream.name) from error
                reason = f"{error.code}: {error.message}"
                kind = "trimmed" if error.code == TRIMMED else "gone"
                if not self._lease.start:  # the oldest record can be read, so the answer is false
                    self._rest(1.0)
                self._send(messages.ShardGap(self._lease.lease, kind, reason))
                return
            except Stopped:
                pass
            iterator = NO_ITERATOR
            if self._next and not over and not self._silence.cold:
                iterator = TipIterator(self._next, self._silence.last, self._silence.since)
            self._send(messages.ShardEnd(self._lease.lease, over, iterator))

    def _serve(self) -> bool:
        """Whether the shard is over."""
        raise NotImplementedError

    def _take(self, page: codec.ChangePage, body: memoryview) -> None:
        """There are records in this answer."""
        raise NotImplementedError

    def _pause(self) -> None:
        """There was no record in the last answer."""

    def _tip(self, moment: float) -> None:
        """Every change made before this moment, on the source's clock, has been taken."""
        raise NotImplementedError

    def _read(self) -> bool:
        """Whether the shard is read to its end."""
        idle = FIRST_PAUSE
        while not self._reads_no_further:
            asked = boot_clock()
            if (page := self._ask()) is None:
                continue
            self._corrupt = self._gone = 0
            self._sequence = page.sequence or self._sequence
            if page.next_iterator is None:
                if page.records:
                    self._drop_iterator(FIRST_PAUSE)
                elif self._next == self._last:
                    return True
                else:
                    self._last = self._next
                    self._context.stop.wait(END_AGAIN)
                continue
            self._next = page.next_iterator
            tip = self._silence.tip(page.records, asked)
            if tip is not None and tip - self._last_reported_tip >= _TIP_EVERY:
                moment = self._context.clock.earliest(tip) - self._context.config.incr_margin
                # Later the clock does not know what it showed then: it can have been set forward.
                if boot_clock() - tip < EPOCH:
                    self._last_reported_tip = tip
                    self._tip(moment)
            if page.records < self._limit * _BUSY and not self._silence.undecided:
                quickly = not self._silence.quiet or asked < self._context.quick_until
                longest = LONGEST_IDLE if quickly else QUIET_PAUSE
                idle = FIRST_PAUSE if page.records else min(2 * idle, longest)
                self._rest(idle)
            self._context.stop.wait(self._calls.pause(time.monotonic()))
        return False

    def _left_out(self, page: codec.ChangePage) -> bool:
        """Whether all its changes were made before following began.

        Their times do not show it where the source's clock was set back since then.
        """
        since, clock = self._stream.since, self._context.clock
        return page.created < since <= clock.earliest() and not self._context.clock_set_back

    @property
    def _reads_no_further(self) -> bool:
        """Whether this lease ends.

        The tip, or the end, must be known first: otherwise every turn might end too early to find
        it.
        """
        over = bool(self._last) and self._next == self._last  # perhaps: it is asked for again
        return self._ended.is_set() and (self._at_once or not (over or self._silence.undecided))

    def _ask(self) -> codec.ChangePage | None:
        """Ask for records once, and take them; None, after a pause, where it must ask again."""
        try:
            self._next = self._next or self._iterator()
            body = self._source.records(self._next, self._limit, self._buffer)
            page = codec.change_page(body, self._stream.options)
            if not page.records:
                self._pause()
            elif self._repeats(body):
                self._sequence = self._position
                self._drop_iterator(1.0)
                return None
            else:
                self._take(page, body)
            return page
        except SourceError as error:
            self._gone += error.code == NOT_FOUND
            new = error.code == NOT_FOUND and self._gone < _GONE_AFTER
            if error.code != EXPIRED_ITERATOR and not new:
                raise
            self._drop_iterator(1.0 if new else FIRST_PAUSE)
        except codec.CorruptPage as error:
            self._corrupt += 1
            self._last = ""
            self._silence.end()
            table, reason = self._lease.table, str(error)
            self._send(messages.ReadRetried(table, False, self._corrupt, reason))
            self._rest(BACKOFF.pause(self._corrupt))
        return None

    def _drop_iterator(self, pause: float) -> None:
        """Read on with another iterator, behind what was taken, after so many seconds."""
        self._next, self._silence = "", Silence()
        self._rest(pause)

    def _repeats(self, body: memoryview) -> bool:
        """Whether the oldest record that is left has been taken before.

        Reading goes back to the oldest record when the source says that the position is trimmed.
        One such answer can be false, and old records must not replace what newer ones have made.
        """
        if self._sequence or not self._position:
            return False
        first = orjson.loads(body[:-1])["Records"][0]["dynamodb"]["SequenceNumber"]
        return as_number(first) <= as_number(self._position)

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            self._ended.wait(seconds)

    def _iterator(self) -> str:
        lease, arn = self._lease, self._stream.arn
        return self._source.iterator(arn, lease.shard, lease.start, self._sequence, self._buffer)
