"""The watcher: the one thread that looks at streams from outside, while the farm reads them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial

from shake.errors import GapError, RunError, ShakeError, SourceError, Stopped
from shake.farm.following import Following
from shake.source.client import Client
from shake.source.streams import check_stream, list_children, list_shards, trimmed
from shake.stream.listing import Listed
from shake.stream.shards import Shard

log = logging.getLogger("shake.farm")

#: Called in the loop with a listing, and whether it is of all shards.
Learn = Callable[[Following, list[Listed], bool], None]
#: Called in the loop with a shard, and as far as it was read (see Shard.reached), where what
#: follows is trimmed, and how that was said.
Lost = Callable[[Following, str, tuple[str, str], str], None]

_Job = tuple[Following, str, tuple[str, str] | None]


class Watcher(threading.Thread):
    """Looks at streams as it is asked to; ``post`` has a call run in the loop."""

    def __init__(
        self,
        client: Client,
        post: Callable[[Callable[[], None]], None],
        learn: Learn,
        lost: Lost,
        fatal: Callable[[ShakeError], None],
    ) -> None:
        super().__init__(name="watcher", daemon=True)
        self._client = client
        self._post = post
        self._learn = learn
        self._lost = lost
        self._fatal = fatal
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting: set[_Job] = set()

    def look(self, following: Following, parent: str = "") -> None:
        """List the children of a shard, or, without one, all shards, and check the stream."""
        self._put((following, parent, None))

    def probe(self, following: Following, shard: Shard) -> None:
        """See whether what is unread of a shard is still there."""
        self._put((following, shard.id, shard.reached))

    def _put(self, job: _Job) -> None:
        if job not in self._waiting:
            self._waiting.add(job)
            self._jobs.put(job)

    def close(self) -> None:
        """Look at nothing more."""
        self._jobs.put(None)

    def run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._waiting.discard(job)
                following, shard, reached = job
                if reached:
                    self._probe(following, shard, reached)
                else:
                    self._look(following, shard)
        except Stopped:
            pass
        except ShakeError as error:
            self._post(partial(self._fatal, error))
        except Exception as error:  # nobody else would notice a shard that has come
            log.debug("the watcher", exc_info=True)
            text = f"streams cannot be watched: unexpected {type(error).__name__}: {error}"
            self._post(partial(self._fatal, RunError(text)))

    def _probe(self, following: Following, shard: str, reached: tuple[str, str]) -> None:
        if said := trimmed(self._client, following.record.arn, shard, *reached):
            self._post(partial(self._lost, following, shard, reached, said))

    def _look(self, following: Following, parent: str) -> None:
        arn = following.record.arn
        try:
            children = list_children(self._client, arn, parent) if parent else None
            if children:
                self._post(partial(self._learn, following, children, False))
                return
            if not parent:
                check_stream(self._client, following.name, arn)
            shards = list_shards(self._client, arn)
        except SourceError as error:
            if error.code != "ResourceNotFoundException":
                raise
            raise GapError(following.name, f"its stream {arn} is gone") from error
        self._post(partial(self._learn, following, shards, True))
