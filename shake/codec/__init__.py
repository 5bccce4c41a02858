"""The codec's public interface, and the only place that chooses an implementation.

``SHAKE_CODEC=reference`` in the environment forces the plain Python one, ``SHAKE_CODEC=native``
insists on the one in C; without it, C is taken where the install could build it.
"""

from __future__ import annotations

import os

from shake.codec import reference
from shake.codec.contract import (
    Body,
    ChangeOptions,
    ChangePage,
    Codec,
    CorruptPage,
    Digests,
    Matcher,
    Options,
    Reject,
    ScanPage,
)
from shake.codec.reference import next_start
from shake.codec.statements import key_document, query, replacement

#: The name of the implementation in use.
IMPLEMENTATION = "reference"
#: A line for people who get the reference without having asked for it.
NOTICE = ""

_wanted = os.environ.get("SHAKE_CODEC", "")
_codec: Codec = reference

if _wanted != "reference":
    try:
        from shake.codec import native

        _codec, IMPLEMENTATION = native, "native"
    except ImportError as error:
        if _wanted == "native":
            raise
        NOTICE = (
            f"the C codec is not built ({error}): items are read in plain Python, some 100 times "
            "slower; install a C compiler, then shake again"
        )

scan_page = _codec.scan_page
change_page = _codec.change_page
batches = _codec.batches
matcher = _codec.matcher
digests = _codec.digests
add_sums = _codec.add_sums
cut_reply = _codec.cut_reply

__all__ = [
    "IMPLEMENTATION",
    "NOTICE",
    "Body",
    "ChangeOptions",
    "ChangePage",
    "CorruptPage",
    "Digests",
    "Matcher",
    "Options",
    "Reject",
    "ScanPage",
    "add_sums",
    "batches",
    "change_page",
    "cut_reply",
    "digests",
    "key_document",
    "matcher",
    "next_start",
    "query",
    "replacement",
    "scan_page",
    "singly",
]


def singly(documents: memoryview) -> list[memoryview]:
    """Each of the documents that ``fill`` wrote, with its length in front."""
    return [documents[start:end] for start, end, _ in batches(documents, 1, len(documents))]
