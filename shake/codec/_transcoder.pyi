class Documents:
    def __init__(
        self,
        page: bytes,
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
    def count(self) -> int: ...
    @property
    def items(self) -> tuple[int, int]: ...
    def fill(self, out: memoryview, prefix: bytes, number: int, /) -> tuple[int, int]: ...
