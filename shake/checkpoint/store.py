"""The only place that chooses where checkpoints are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shake.checkpoint.contract import Store, StoreUnavailable
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.mongodb import MongoStore

if TYPE_CHECKING:
    from shake.config import Config

__all__ = ["Store", "StoreUnavailable", "open_store"]


def open_store(config: Config, *, writable: bool = True) -> Store:
    """The store that ``checkpoint.type``, ``.address`` and ``.db`` name; it is proved usable.

    ``writable``: for writes too. Changes nothing in it. Raises RefusedError, with the way out,
    where it cannot be used.
    """
    if config.checkpoint_type == "file":
        return FileStore.open(
            config.checkpoint_location, config.checkpoint_database, writable=writable
        )
    given = bool(config.checkpoint_address)
    key = "checkpoint.address" if given else "target.address (which holds the checkpoints, too)"
    return MongoStore.open(
        config.checkpoint_location, config.checkpoint_database, key=key, writable=writable
    )


def attach_store(config: Config) -> Store:
    """The same store, for a process whose parent has proved it usable."""
    location, database = config.checkpoint_location, config.checkpoint_database
    if config.checkpoint_type == "file":
        return FileStore(location, database)
    return MongoStore(location, database)
