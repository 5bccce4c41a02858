"""The order of all writes: by the number of their run, and by their number within the run.

A run takes its number by an exchange, and then renews its lock: so it held the lock meanwhile, and
a run that takes over later gets a greater number. The stores keep a document with a higher number.
So what was sent by an earlier run, or sent again, and lands late, undoes nothing that is saved
since. What lands before a run saves the same document is replaced then.

Older versions order writes by ``Run``, and by ``Serial`` among those of the same. ``Run`` only
grows within a document. So it orders what they and this version save in turn, where both have it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from multiprocessing.pool import ThreadPool
from typing import Any

from shake.checkpoint.contract import Document, Store, read_one
from shake.checkpoint.document import FORMAT, Fields

#: Fields of which a later write has no lower number, where both have it.
ORDERED = ("Write", "Run")
#: Bits of the number within a run.
_BITS = 40
#: Collections that are read at the same time.
_THREADS = 8

_writes = itertools.count(1)


def take_number(
    store: Store, place: tuple[str, str], collections: Iterable[str], renew: Callable[[], None]
) -> int:
    """The number of a new run, which no other one gets, and which is greater than all before.

    It is kept in the document ``place``: a collection and an ``_id``. The numbers in all documents
    of ``collections`` count, too. So a user can remove that document, or use an older version in
    between, which counts the runs of each table. ``renew`` renews the lock, and raises where it is
    lost.
    """
    collection, id = place
    with ThreadPool(_THREADS) as threads:
        found = max(threads.map(lambda name: _greatest(store.read(name)), collections), default=0)
    while True:
        saved = read_one(store, collection, id)
        last = Fields(collection, saved).number("Number") if saved else 0
        number = max(found, last) + 1
        if store.swap(collection, saved, {"_id": id, "Format": FORMAT, "Number": number}):
            renew()
            return number


def numbered(document: Document, run: int) -> dict[str, Any]:
    """The document as the next write of a run; only one process writes as that.

    By its ``Serial`` it is later than what an older version has sent with the same ``Run``.
    """
    number = (run << _BITS) + next(_writes)
    return {**document, "Write": number, "Serial": number}


def is_later(stored: Document, new: Document) -> bool:
    """Whether what is stored was written later than ``new``."""
    return any(stored.get(field, 0) > new.get(field, math.inf) for field in ORDERED)


def _greatest(documents: Iterable[Document]) -> int:
    """The greatest number of a run in the documents, 0 where there is none."""
    numbers = (max(one.get("Run", 0), one.get("Write", 0) >> _BITS) for one in documents)
    return max(numbers, default=0)
