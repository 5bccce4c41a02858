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
from shake.source.streams import check_stream, list_children, list_shards
from shake.stream.listing import Listed

log = logging.getLogger("shake.farm")

#: Called in the loop with a listing, and whether it is of all shards.
Learn = Callable[[Following, list[Listed], bool], None]


class Watcher(threading.Thread):
    """Lists shards as it is asked to; ``post`` has a call run in the loop."""

    def __init__(
        self,
        client: Client,
        post: Callable[[Callable[[], None]], None],
        learn: Learn,
        fatal: Callable[[ShakeError], None],
    ) -> None:
        super().__init__(name="watcher", daemon=True)
        self._client = client
        self._post = post
        self._learn = learn
        self._fatal = fatal
        self._jobs: queue.SimpleQueue[tuple[Following, str] | None] = queue.SimpleQueue()
        self._waiting: set[tuple[Following, str]] = set()

    def look(self, following: Following, parent: str = "") -> None:
        """List the children of a shard, or, without one, all shards, and check the stream."""
        job = (following, parent)
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
                self._look(*job)
        except Stopped:
            pass
        except ShakeError as error:
            self._post(partial(self._fatal, error))
        except Exception as error:  # nobody else would notice a shard that has come
            log.debug("the watcher", exc_info=True)
            text = f"streams cannot be watched: unexpected {type(error).__name__}: {error}"
            self._post(partial(self._fatal, RunError(text)))

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
