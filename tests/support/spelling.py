"""The ways to spell one JSON value, and what damages it."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import strategies as st

#: Names that are always written plainly, since what finds them is not meant to find others.
PLAIN = ("Items", "Records")


class Writer:
    """Writes JSON as no two libraries would: any space, any escape, members in any order."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def text(self, value: Any) -> str:
        if isinstance(value, dict):
            members = (self._string(k) + self._space(":") + self.text(v) for k, v in value.items())
            return self._space("{") + self._space(",").join(members) + self._space("}")
        if isinstance(value, list):
            return (
                self._space("[") + self._space(",").join(map(self.text, value)) + self._space("]")
            )
        return self._string(value) if isinstance(value, str) else json.dumps(value)

    def _space(self, mark: str) -> str:
        if self._random.random() < 0.8:
            return mark
        return self._random.choice(["", " ", "\r\n\t"]) + mark + self._random.choice(["", "  "])

    def _string(self, text: str) -> str:
        style = self._random.random()
        if style < 0.7 or text in PLAIN:
            return json.dumps(text, ensure_ascii=style < 0.1)
        return '"' + "".join(map(self._character, text)) + '"'

    def _character(self, character: str) -> str:
        if character == "/":
            return r"\/"
        if self._random.random() < 0.3:
            units = character.encode("utf-16-be").hex()
            return "".join(rf"\u{units[i : i + 4]}" for i in range(0, len(units), 4))
        return json.dumps(character, ensure_ascii=False)[1:-1]


SPLICES = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\0", b"0", b"-", b"e9", b"=", b"/"),
    *(
        rb"\u0000",
        rb"\ud83d",
        rb"\ude00",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\xf0\x9f\x98\x80",
        b"\xf4\x90",
    ),
    *(b'{"S":""}', b'{"N":"1"}', b'"pk":{"S":"x"},', b'"Items":[],', b"null", b"true"),
]


def damaged(body: bytes, data: st.DataObject) -> bytes:
    """The body with up to four of its bytes replaced by something else."""
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 4)))
    splice = st.one_of(st.binary(max_size=3), st.sampled_from(SPLICES))
    return body[:start] + data.draw(splice) + body[end:]
