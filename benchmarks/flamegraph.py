"""Draws stacks as a flame graph in SVG. The width of a box is how often its function was sampled.

Source: https://www.brendangregg.com/flamegraphs.html
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import islice

_WIDTH, _ROW, _LETTER = 1400.0, 17, 6.6
#: A narrower box is too small to read, and is left out.
_NARROWEST = 0.3


@dataclass(slots=True)
class _Box:
    """A function at one place of the stack: how often it was sampled, and what it called."""

    seen: int = 0
    calls: dict[str, _Box] = field(default_factory=dict)

    def depth(self) -> int:
        return 1 + max((call.depth() for call in self.calls.values()), default=0)


def flame_graph(stacks: Mapping[tuple[str, ...], int], title: str) -> str:
    """Draw ``stacks``: outermost function first, with the number of samples of each stack."""
    root = _Box()
    for stack, seen in stacks.items():
        box = root
        box.seen += seen
        for frame in stack:
            box = box.calls.setdefault(frame, _Box())
            box.seen += seen
    height = (root.depth() + 2) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height}" '
        f'font-family="monospace" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="4" y="13">{escape(title)}; {root.seen:,} samples</text>'
    ]
    if root.seen:
        _draw(parts, "all", root, 0.0, height - _ROW, _WIDTH / root.seen, root.seen)
    return "\n".join([*parts, "</svg>\n"])


def _draw(
    parts: list[str], name: str, box: _Box, x: float, y: float, scale: float, total: int
) -> None:
    width = box.seen * scale
    if width < _NARROWEST:
        return
    color = f"hsl({zlib.crc32(name.encode()) % 50},85%,68%)"
    shown = escape("".join(islice(name, int(width / _LETTER))))
    parts.append(
        f"<g><title>{escape(name)}: {box.seen:,} samples, {100 * box.seen / total:.2f} %</title>"
        f'<rect x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{_ROW - 1}" fill="{color}"/>'
        f'<text x="{x + 2:.1f}" y="{y + 12:g}">{shown}</text></g>'
    )
    for call, inner in sorted(box.calls.items()):
        _draw(parts, call, inner, x, y - _ROW, scale, total)
        x += inner.seen * scale
