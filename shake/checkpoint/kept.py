"""Items that cannot be stored in the target, kept beside the checkpoints until they can be."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

from shake.checkpoint.contract import Document, Store, StoreUnavailable
from shake.checkpoint.document import FORMAT, Record
from shake.codec.number import parts
from shake.config.names import bad_name, is_bad_name

T = TypeVar("T")

#: What the ``_id`` of each document begins with: none of a table's checkpoint does.
PREFIX = "bad-"
#: Seconds for which the document of an item stays, without the item, after that has left. No
#: command of a writer that has crashed arrives later (see docs/ARCHITECTURE.md).
_STAYS = 3600
_RETRY_SECONDS = 1.0


class Tally(NamedTuple):
    """How many items are kept, and for how many of them the target holds an older document."""

    items: int = 0
    older: int = 0

    def plus(self, more: Tally) -> Tally:
        return Tally(self.items + more.items, self.older + more.older)


NOTHING_KEPT = Tally()


@dataclass(frozen=True, slots=True)
class KeptItem(Record):
    """An item whose newest known image cannot be stored.

    ``key`` and ``item`` are DynamoDB JSON, ``item`` as it was received. ``origin`` says from which
    segment, or shard and record, it came, and ``time`` when it was kept, by this machine's clock.
    ``older``: the target holds an older document under the key. ``stamp`` is that of the copy (see
    TableRecord). ``counted``: the target refused it, so the copy has counted its document.
    """

    NAMES: ClassVar = {"origin": "From"}
    LATER = ("older", "counted")

    table: str
    key: str
    item: str
    reason: str
    origin: str
    time: str
    older: bool = False
    stamp: int = 0
    counted: bool = False

    @property
    def id(self) -> str:
        """The ``_id`` of its document: equal for equal keys."""
        return entry_id(json.loads(self.key))

    def own(self) -> dict[str, Any]:
        return {"_id": self.id}


def entry_id(key: dict[str, dict[str, str]]) -> str:
    """What the document of a typed key is known by: numbers count by their value."""
    plain = json.dumps({name: _plain(typed) for name, typed in key.items()}, sort_keys=True)
    return PREFIX + hashlib.sha256(plain.encode()).hexdigest()[:40]


def _plain(typed: dict[str, str]) -> list[Any]:
    [(tag, text)] = typed.items()
    if tag == "N":
        try:
            return [tag, *parts(text)]
        except ValueError:
            pass
    return [tag, text]


def all_kept(store: Store) -> list[KeptItem]:
    """The kept items of all tables of a task, table by table, the oldest first."""
    names = [name for name in store.collections() if is_bad_name(name)]
    found = [
        KeptItem.of(name, one)
        for name in names
        for one in store.read(name)
        if one["_id"].startswith(PREFIX) and not one.get("Gone")
    ]
    return sorted(found, key=lambda item: (item.table, item.time, item.key))


class KeptItems:
    """The kept items of one table. Thread-safe.

    Every change of a document is an exchange for the one that is there (see Store.swap), and a
    document without an item stays behind for a while. An item only comes in exchange for such an
    empty document, which is inserted first. A process that ``writes`` exchanges all empty ones
    before it uses what it has read. So what an earlier process has sent late changes nothing, also
    where the item has been stored or deleted since. ``wait`` is called before each try to write,
    and can block.
    """

    def __init__(
        self,
        store: Store,
        table: str,
        *,
        writes: bool = False,
        wait: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._collection = bad_name(table)
        self._wait = wait
        self._to_fence = writes
        self._lock = threading.Lock()
        self._documents: dict[str, dict[str, Any]] | None = None

    # ---- reading

    @property
    def tally(self) -> Tally:
        items = self.items()
        return Tally(len(items), sum(item.older for item in items))

    def reload(self) -> None:
        """Read again what is kept: other processes can have changed it."""
        with self._lock:
            self._documents = None

    def items(self) -> list[KeptItem]:
        """The items, the oldest first."""
        with self._lock:
            found = [one for one in self._loaded().values() if not one.get("Gone")]
        kept = [KeptItem.of(self._collection, one) for one in found]
        return sorted(kept, key=lambda item: (item.time, item.key))

    def __contains__(self, key: str) -> bool:
        with self._lock:
            found = self._loaded().get(key)
            return found is not None and not found.get("Gone")

    def _loaded(self) -> dict[str, dict[str, Any]]:
        if self._documents is None:
            read = self._insist(lambda: self._store.read(self._collection))
            self._documents = {one["_id"]: one for one in read if one["_id"].startswith(PREFIX)}
            if self._to_fence:
                for one in read:
                    if one.get("Gone"):
                        self._exchange_empty(self._documents, one)
                self._to_fence = False
        return self._documents

    def _exchange_empty(self, documents: dict[str, dict[str, Any]], old: dict[str, Any]) -> None:
        """Exchange an empty document for one with another mark; take in what is there instead."""
        key, new = old["_id"], _marked(old)
        if self._swap(old, new):
            documents[key] = new
        else:
            self._read_again(documents, key)

    def _read_again(self, documents: dict[str, dict[str, Any]], key: str) -> None:
        documents.pop(key, None)
        there = self._insist(lambda: self._store.read(self._collection, [key]))
        documents.update((one["_id"], one) for one in there)

    # ---- writing

    def put(self, item: KeptItem) -> None:
        """Keep an item in the place of what is kept of its key; it is durable on return."""
        self._exchange(item.id, item.document())

    def remove(self, key: str) -> None:
        """Keep nothing more under a key (see entry_id); that is durable on return."""
        if key in self:
            self._exchange(key, _empty(key))

    def sweep(self) -> None:
        """Delete the documents of items that have left long ago."""
        with self._lock:
            for one in list(self._loaded().values()):
                if one.get("Gone", time.time()) < time.time() - _STAYS:
                    self._swap(one, None)
                    del self._loaded()[one["_id"]]

    def _exchange(self, key: str, document: dict[str, Any]) -> None:
        new = _marked(document)
        with self._lock:
            documents = self._loaded()
            while (old := documents.get(key)) is None or old["Mark"] != new["Mark"]:
                step = new if old else _marked(_empty(key))
                if self._swap(old, step):
                    documents[key] = step
                else:
                    self._read_again(documents, key)

    def _swap(self, old: Document | None, new: Document | None) -> bool:
        known = None if old is None else {"_id": old["_id"], "Mark": old["Mark"]}
        return self._insist(lambda: self._store.swap(self._collection, known, new))

    def _insist(self, call: Callable[[], T]) -> T:
        while self._wait:
            self._wait()
            try:
                return call()
            except StoreUnavailable:
                time.sleep(_RETRY_SECONDS)
        return call()


def _empty(key: str) -> dict[str, Any]:
    """A document without an item."""
    return {"_id": key, "Format": FORMAT, "Gone": int(time.time())}


def _marked(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a mark that no other one has."""
    return document | {"Mark": uuid.uuid4().hex}
