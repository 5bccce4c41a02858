"""What a run is connected with: the source, and the store of its checkpoints."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.store import Store, open_store
from shake.config import Config
from shake.source.clock import SourceClock
from shake.source.contract import Source
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Endpoint
from shake.source.session import CredentialSource, open_source

log = logging.getLogger("shake")


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

    def client(self, stop: threading.Event) -> Source:
        """A client of the source, whose waits end with ``stop``."""
        return DynamoSource(
            self.endpoint,
            self.credentials,
            on_retry=lambda retry: log.info("%s: %s; retrying", retry.operation, retry.reason),
            stop=stop,
            clock=self.clock,
        )


@contextlib.contextmanager
def open_connections(config: Config, *, spread: bool = False) -> Iterator[RunConnections]:
    """Raises RefusedError where source or store cannot be used."""
    endpoint, credentials = open_source(config)
    with contextlib.closing(open_store(config)) as store:
        checkpoints = Checkpoints(store)
        yield RunConnections(endpoint, credentials, store, checkpoints, SourceClock(), spread)
