"""The writers of one table while it is copied: all of them insert, and the first does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shake.farm import writer_messages as messages
from shake.farm.writer import TableWriter


class CopyWriters:
    """The first writer carries out the orders. The others only insert, into the same collection.

    ``start_another`` starts one of them, by the first one and its own number, from 2 on. It starts
    with its first page, when the first writer has reported the collection.
    """

    def __init__(
        self, first_writer: TableWriter, start_another: Callable[[TableWriter, int], TableWriter]
    ) -> None:
        self.first_writer = first_writer
        self._start_another = start_another
        self._others: dict[int, TableWriter] = {}

    def __iter__(self) -> Iterator[TableWriter]:
        yield self.first_writer
        yield from self._others.values()

    def write(self, number: int, write: messages.Write) -> None:
        """Have the writer of this number, from 1 on, store a slot."""
        self._writer(number).write(write)

    def end_others(self) -> None:
        processes = [writer.process for writer in self._others.values()]
        self._others.clear()
        for process in processes:
            process.dismiss()
        for process in processes:
            process.reap()

    def close(self) -> None:
        self.end_others()
        self.first_writer.close()

    def _writer(self, number: int) -> TableWriter:
        if number == 1:
            return self.first_writer
        if number not in self._others:
            self._others[number] = self._start_another(self.first_writer, number)
        return self._others[number]
