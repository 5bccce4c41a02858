"""DynamoDB items for property tests: strategies that reach every type, and every edge of each."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st

from shake.schema import Attribute, Keys

PARTITION = Keys(Attribute("pk", "S"))
PARTITION_AND_SORT = Keys(Attribute("pk", "S"), Attribute("sk", "N"))

Item = dict[str, Any]

#: A number as (coefficient, exponent); the last digit of a coefficient may be 0.
Value = tuple[int, int]


@st.composite
def values(draw: st.DrawFn, max_digits: int = 38) -> Value:
    """Any number that DynamoDB allows: 38 digits, from 1E-130 up to 9.99..E+125."""
    if draw(st.booleans()):
        return draw(st.sampled_from(EDGES)), 0
    width = draw(st.integers(1, max_digits))
    coefficient = draw(st.integers(10 ** (width - 1), 10**width - 1))
    power = draw(st.one_of(st.integers(-130, 125), st.integers(-3, 40)))
    return coefficient * draw(st.sampled_from((1, -1))), power - width + 1


EDGES = [
    sign * (edge + step)
    for edge in (0, 100, 2**31, 2**63, 10**19)
    for step in (-1, 0, 1)
    for sign in (1, -1)
]


@st.composite
def spelled(draw: st.DrawFn, value: Value) -> str:
    """One of the many texts of a number."""
    coefficient, exponent = value
    zeros = draw(st.integers(0, 3))
    digits, exponent = str(abs(coefficient)) + "0" * zeros, exponent - zeros
    if exponent > 0 and draw(st.booleans()):
        digits, exponent = digits + "0" * exponent, 0
    digits = "0" * draw(st.integers(0, 2)) + digits
    places = -exponent if exponent < 0 and draw(st.booleans()) else draw(st.integers(0, 5))
    digits, exponent = digits.rjust(places + 1, "0"), exponent + places
    text = draw(st.sampled_from(("-",) if coefficient < 0 else ("", "+")))
    text += f"{digits[: len(digits) - places]}.{digits[len(digits) - places :]}"
    if places == 0 and draw(st.booleans()):
        text = text.rstrip(".")
    if exponent or draw(st.booleans()):
        text += draw(st.sampled_from(("e{}", "E{}", "E{:+}", "E{:+04}"))).format(exponent)
    return text


def numbers(max_digits: int = 38) -> st.SearchStrategy[str]:
    """The text of a number."""
    return values(max_digits).flatmap(spelled)


def texts(min_size: int = 0) -> st.SearchStrategy[str]:
    """Any Unicode text, U+0000 included, lone surrogates not."""
    return st.text(min_size=min_size, max_size=20)


def binaries(min_size: int = 0) -> st.SearchStrategy[str]:
    """The base64 of any bytes."""
    return st.binary(min_size=min_size, max_size=20).map(lambda b: base64.b64encode(b).decode())


#: Attribute names: what BSON might take for its own first.
names = st.one_of(
    st.sampled_from(("_id", "a.b", "$set", "a", "")),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
)


def _typed(tag: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Item]:
    return values.map(lambda value: {tag: value})


_scalars = st.one_of(
    _typed("S", texts()),
    _typed("N", numbers()),
    _typed("B", binaries()),
    _typed("BOOL", st.booleans()),
    _typed("NULL", st.just(True)),
    _typed("SS", st.lists(texts(), max_size=4)),
    _typed("NS", st.lists(numbers(), max_size=4)),
    _typed("BS", st.lists(binaries(), max_size=4)),
)

#: Any typed value, ``{"N": "1"}``, nested or not.
typed_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        _typed("L", st.lists(inner, max_size=4)),
        _typed("M", st.dictionaries(names, inner, max_size=4)),
    ),
    max_leaves=8,
)

_key_values = {
    "S": texts(min_size=1),
    "N": numbers(),
    "B": binaries(min_size=1),
}


@st.composite
def items(draw: st.DrawFn, keys: Keys = PARTITION_AND_SORT) -> Item:
    """An item of a table with these keys, its key attributes anywhere in it."""
    attributes = draw(st.dictionaries(names, typed_values, max_size=6))
    for key in keys:
        attributes[key.name] = {key.type: draw(_key_values[key.type])}
    attributes.pop("pre_id", None)
    return dict(draw(st.permutations(list(attributes.items()))))
