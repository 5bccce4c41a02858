"""DynamoDB numbers: one reading of their text, and one BSON form for each value.

Whole numbers are int here. ``bson.encode`` makes int32 of those that fit 32 bits, and int64 of the
others. The C twin does that in ``put_integer`` of number.c.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from bson.decimal128 import Decimal128

#: Significant digits, and powers of ten of the first of them, that DynamoDB itself allows.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_DIGITS = 38
MAGNITUDES = range(-130, 126)

#: Significant digits of a Decimal128.
#: https://github.com/mongodb/specifications/blob/master/source/bson-decimal128/decimal128.md
DECIMAL128_DIGITS = 34

_whole_number = re.compile(r"-?[0-9]{1,18}").fullmatch
_any_number = re.compile(
    r"([+-]?)(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?)0*([0-9]{1,9}))?"
).fullmatch


class NumberParts(NamedTuple):
    """The value ``int(sign + digits) * 10**exponent``.

    ``sign`` is ``-`` or empty; ``digits`` neither start nor end with 0. Equal values have equal
    parts; zero is ``("", "0", 0)``.
    """

    sign: str
    digits: str
    exponent: int


def parts(text: str) -> NumberParts:
    """Read a number. Raises ValueError for what is none, or one that DynamoDB does not allow."""
    match = _any_number(text)
    if match is None:
        raise ValueError(f"{_short(text)} is not a number")
    sign, whole, fraction, exponent_sign, exponent = match.groups("")
    written = (whole + fraction).lstrip("0")
    digits = written.rstrip("0")
    if not digits:
        return NumberParts("", "0", 0)
    power = int(exponent_sign + (exponent or "0")) - len(fraction) + len(written) - len(digits)
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the number {_short(text)} has more than {MAX_DIGITS} digits")
    if power + len(digits) - 1 not in MAGNITUDES:
        raise ValueError(f"the number {_short(text)} is out of DynamoDB's range")
    return NumberParts("-" if sign == "-" else "", digits, power)


def exact(text: str, overflow: str) -> int | Decimal128 | str:
    """The number without loss.

    Whole numbers of 64 bits are int; others of at most 34 digits Decimal128, with exponent 0 where
    a whole number fits the 34 digits written out, else with as few digits as the value has; the
    rest is plain decimal notation, or ValueError where ``overflow`` is ``error``.
    """
    if _whole_number(text):
        return int(text)
    sign, digits, exponent = parts(text)
    width = len(digits) + exponent
    if exponent >= 0 and width <= 19:
        value = int(sign + digits + "0" * exponent)
        if -(1 << 63) <= value < 1 << 63:
            return value
    if len(digits) <= DECIMAL128_DIGITS:
        if exponent > 0 and width <= DECIMAL128_DIGITS:
            digits, exponent = digits + "0" * exponent, 0
        return _decimal128(sign, int(digits), exponent)
    if overflow == "error":
        raise ValueError(
            f"the number {_short(text)} has more than {DECIMAL128_DIGITS} digits; "
            "convert.number.overflow = string stores it as text"
        )
    return _plain(sign, digits, exponent)


def plain(text: str) -> str:
    """The number in the one form in which DynamoDB answers it. Raises ValueError."""
    return _plain(*parts(text))


def nearest(text: str) -> float:
    """The double nearest to the number."""
    sign, digits, exponent = parts(text)
    return float(f"{sign}{digits}e{exponent}")


def survives_as_double(text: str) -> bool:
    """Whether the nearest double's shortest text is this number: no two such share a double."""
    return Decimal(repr(nearest(text))) == Decimal(text)


def _decimal128(sign: str, coefficient: int, exponent: int) -> Decimal128:
    """1 bit of sign, 14 of exponent (biased by 6176), 113 of binary coefficient, little-endian."""
    bits = (sign == "-") << 127 | (exponent + 6176) << 113 | coefficient
    return Decimal128.from_bid(bits.to_bytes(16, "little"))


def _plain(sign: str, digits: str, exponent: int) -> str:
    if exponent >= 0:
        return sign + digits + "0" * exponent
    padded = digits.rjust(1 - exponent, "0")
    return f"{sign}{padded[:exponent]}.{padded[exponent:]}"


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")
