class Documents:
    def __init__(
        self,
        page: bytes | memoryview,
        convert: int,
        overflow_is_error: bool,
        id_is_key: bool,
        renamed: bytes | None,
        partition: bytes,
        partition_type: int,
        sort: bytes | None,
        sort_type: int,
        /,
    ) -> None: ...
    @property
    def done(self) -> bool: ...
    @property
    def count(self) -> int: ...
    @property
    def items(self) -> tuple[int, int]: ...
    def fill(
        self, out: memoryview, prefix: bytes, number: int, /
    ) -> tuple[int, int, tuple[str, int] | None]: ...

def batches(documents: memoryview, most: int, most_bytes: int, /) -> list[tuple[int, int, int]]: ...
