"""What a run is connected with: the source, and the store of its checkpoints."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.store import Store, open_store
from shake.config import Config
from shake.source.aws_session import CredentialSource, open_source
from shake.source.client import Retry
from shake.source.clock import SourceClock
from shake.source.contract import Source
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Endpoint

log = logging.getLogger("shake")

#: Texts that are kept until they are taken.
_MOST_TEXTS = 100


class SourceRetries:
    """Logs repeated requests, and keeps what has failed ``max_tries`` times in a row. Thread-safe.

    The source's clients add to it, and the loop of a run takes.
    """

    def __init__(self, max_tries: int) -> None:
        self._max_tries = max_tries
        self._texts: deque[str] = deque(maxlen=_MOST_TEXTS)

    def add(self, retry: Retry) -> None:
        text = f"{retry.operation}: {retry.reason}"
        log.info("%s; retrying", text)
        if retry.tries >= self._max_tries:
            self._texts.append(text)

    def take(self) -> list[str]:
        """What has failed so often since the last call."""
        return [self._texts.popleft() for _ in range(len(self._texts))]


@dataclass(frozen=True, slots=True)
class RunConnections:
    """The source, and the store of the checkpoints, opened.

    ``checkpoints`` are in the store. ``spread``: children are to run on other machines.
    """

    endpoint: Endpoint
    credentials: CredentialSource
    store: Store
    checkpoints: Checkpoints
    clock: SourceClock
    spread: bool
    retries: SourceRetries

    def client(self, stop: threading.Event) -> Source:
        """A client of the source, whose waits end with ``stop``."""
        return DynamoSource(
            self.endpoint,
            self.credentials,
            on_retry=self.retries.add,
            stop=stop,
            clock=self.clock,
        )


@contextlib.contextmanager
def open_connections(config: Config, *, spread: bool = False) -> Iterator[RunConnections]:
    """Raises RefusedError where source or store cannot be used."""
    endpoint, credentials = open_source(config)
    with contextlib.closing(open_store(config)) as store:
        yield RunConnections(
            endpoint,
            credentials,
            store,
            Checkpoints(store),
            SourceClock(),
            spread,
            SourceRetries(config.source_session_max_retries),
        )
