"""Breaks lines for a terminal between words; nothing is left out, and longer words stay whole."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator

#: ``  applied through: ``: what follows stands under what follows.
_LABEL = re.compile(r" {2,}[a-z][a-z ]{,25}: +| *")
_INDENT = 4


def terminal_width() -> int:
    """The columns of the terminal that stdout is; 0 where it is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 0


def wrapped(lines: Iterable[str], width: int) -> Iterator[str]:
    """The lines, none wider than ``width`` where its words allow that; 0: as they are."""
    for line in lines:
        yield from _wrap(line, width) if 0 < width < len(line) else (line,)


def _wrap(line: str, width: int) -> list[str]:
    found = _LABEL.match(line)
    start = found.end() if found else 0
    label = line[:start]
    hang = start if label.strip() else start + _INDENT
    return textwrap.wrap(
        line[start:],
        width,
        initial_indent=label,
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
