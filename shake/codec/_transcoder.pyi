from shake.codec.contract import KeyForm
from shake.codec.native import _Plan

#: Why the reference has to judge what is next, and where in the body that is.
_Refusal = tuple[str, int]

def documents(
    body: bytes | memoryview, plan: _Plan, out: memoryview, prefix: bytes, number: int, /
) -> tuple[int, int, tuple[int, int], _Refusal | None]:
    """Bytes, documents, and where the array of items begins and ends."""

class Changes:
    """Raises ValueError(reason, position) where the reference has to judge the response."""

    def __init__(
        self,
        body: bytes | memoryview,
        plan: _Plan,
        partition_path: bytes,
        sort_path: bytes | None,
        sharded: bool,
        upsert: bool,
        insert_only: bool,
        /,
    ) -> None: ...
    @property
    def found(self) -> tuple[int, int, tuple[int, int], str, str]:
        """Records, statements, where the array of records begins and ends, and of the last record
        its SequenceNumber and time.
        """
    def fill(self, out: memoryview, /) -> tuple[tuple[tuple[int, int], ...], _Refusal | None]:
        """(bytes, statements) of each kind."""

def batches(documents: memoryview, most: int, most_bytes: int, /) -> list[tuple[int, int, int]]: ...

class Matcher:
    def __init__(
        self, documents: bytes | memoryview, seed: bytes, ours: KeyForm, stored: KeyForm, /
    ) -> None: ...
    def __len__(self) -> int: ...
    def filter(self, first: int, last: int, scanned: bool, /) -> bytes: ...
    def match(self, stored: bytes | memoryview, /) -> None: ...
    def unmatched(self) -> list[int]: ...
    def add(self, sums: memoryview, /) -> int: ...

class Digests:
    def __init__(self, seed: bytes, form: KeyForm, /) -> None: ...
    def add(self, documents: bytes | memoryview, sums: memoryview, /) -> int: ...
    def within(self, documents: bytes | memoryview, marks: bytes, /) -> list[bytes]: ...
    def key(self, document: bytes, /) -> bytes: ...
    def fields(self, document: bytes, /) -> bytes | None: ...

def add_sums(sums: memoryview, more: bytes | memoryview, /) -> None: ...
def cut_reply(reply: bytes | memoryview, /) -> tuple[bytes, bytes]: ...
