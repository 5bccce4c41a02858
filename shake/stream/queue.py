"""A queue that gives the name with the lowest figure first."""

from __future__ import annotations

import heapq
from typing import Any, Generic, TypeVar

Name = TypeVar("Name")
Figure = TypeVar("Figure", bound=Any)


class Queue(Generic[Name, Figure]):
    """Names that wait, the one with the lowest figure first."""

    def __init__(self) -> None:
        self._figures: dict[Name, Figure] = {}
        self._heap: list[tuple[Figure, Name]] = []  # of these, and of some that were

    def __len__(self) -> int:
        return len(self._figures)

    def add(self, name: Name, figure: Figure) -> None:
        if self._figures.get(name) == figure:
            return
        self._figures[name] = figure
        heapq.heappush(self._heap, (figure, name))
        if len(self._heap) > 2 * len(self._figures) + 64:  # most of it was
            self._heap = [(figure, name) for name, figure in self._figures.items()]
            heapq.heapify(self._heap)

    def discard(self, name: Name) -> None:
        self._figures.pop(name, None)

    def first(self) -> Name:
        while True:
            figure, name = self._heap[0]
            if self._figures.get(name) == figure:
                return name
            heapq.heappop(self._heap)
