"""A queue of names, by a figure."""

from __future__ import annotations

import heapq


class Queue:
    """Names that wait, the one with the lowest figure first."""

    def __init__(self) -> None:
        self._figures: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # of these, and of some that were

    def __len__(self) -> int:
        return len(self._figures)

    def add(self, name: str, figure: float) -> None:
        self._figures[name] = figure
        heapq.heappush(self._heap, (figure, name))

    def discard(self, name: str) -> None:
        self._figures.pop(name, None)

    def first(self) -> str:
        while True:
            figure, name = self._heap[0]
            if self._figures.get(name) == figure:
                return name
            heapq.heappop(self._heap)
