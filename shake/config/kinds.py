"""The kinds of values that keys take: text to value, and back to text that gives the same value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """``parse`` raises ValueError for text that is not ``allowed``; ``write`` undoes it.

    ``free``: quotes around the value and `` #`` in it can be meant.
    """

    allowed: str
    parse: Callable[[str], Any]
    write: Callable[[Any], str] = str
    free: bool = False


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """Read capacity units a second for one table; where ``share``, percent of the provisioned.

    ``chosen``: the user has set it. The default is for tables in AWS only.
    """

    amount: float
    share: bool
    chosen: bool = True

    def units(self, provisioned: int, *, in_aws: bool) -> float | None:
        """Units a second, given a table's provisioned units a second; None: no limit.

        A table on demand has no provisioned capacity (0), of which there is no share.
        """
        if not self.chosen and not in_aws:
            return None
        units = provisioned * self.amount / 100 if self.share else self.amount
        return units if 0 < units < math.inf else None


#: Without ``source.read_budget`` half of what AWS provisions is left to others. An emulator also
#: describes provisioned capacity, which limits nothing there.
AUTO_BUDGET = ReadBudget(50.0, share=True, chosen=False)
NO_BUDGET = ReadBudget(math.inf, share=False)
_BUDGETS = {"auto": AUTO_BUDGET, "none": NO_BUDGET}


def whole_number(least: int, most: int | None = None) -> Kind:
    """A whole number, bounds included."""
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
        if number is None or number < least or (most is not None and number > most):
            raise ValueError
        return number

    return Kind(f"a whole number {limits}", parse)


def choice(*names: str, also: dict[str, str] | None = None) -> Kind:
    """One of the names, in any case; ``also`` maps other names to these."""
    meaning = {name: name for name in names} | (also or {})
    return Kind("one of: " + ", ".join(names), _parse_word(meaning))


def _parse_word(meaning: Mapping[str, Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if text.lower() not in meaning:
            raise ValueError
        return meaning[text.lower()]

    return parse


def _parse_port_or_off(text: str) -> int | None:
    port: int = HTTP_PORT.parse(text)
    return None if port < 0 else port


def _parse_ports(text: str) -> tuple[int, ...]:
    ports = [HTTP_PORT.parse(port.strip()) for port in text.split(";")]
    return tuple(dict.fromkeys(port for port in ports if port >= 0))


def _parse_names(text: str) -> tuple[str, ...]:
    names = tuple(name for part in text.split(";") if (name := part.strip()))
    if not names:
        raise ValueError
    return names


def _parse_map(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for entry in _parse_names(text):
        table, _, namespace = (part.strip() for part in entry.partition(":"))
        database, _, collection = namespace.partition(".")
        # Where a map's next entry follows, its separator is none: "a:shop.a,b:shop.b".
        if not (table and database and collection) or re.search(r"[,\s].*:", collection):
            raise ValueError
        pairs.append((table, namespace))
    return tuple(pairs)


def _parse_budget(text: str) -> ReadBudget:
    if word := _BUDGETS.get(text.lower()):
        return word
    share = text.endswith("%")
    amount = float(text.removesuffix("%"))
    if not 0 < amount < math.inf or (share and amount > 100):
        raise ValueError
    return ReadBudget(amount, share)


def _parse_price(text: str) -> float:
    price = float(text)
    if not 0 <= price < math.inf:
        raise ValueError
    return price


def _parse_seconds(text: str) -> float:
    number = re.fullmatch(r"([0-9.]+(?:e-?[0-9]+)?)[ \t]*s?", text)
    seconds = float(number[1]) if number else math.inf
    if seconds > 3600:
        raise ValueError
    return seconds


def _write_number(number: float) -> str:
    return repr(number).removesuffix(".0")


def _write_budget(budget: ReadBudget) -> str:
    number = _write_number(budget.amount) + "%" * budget.share
    return next((word for word, meant in _BUDGETS.items() if budget == meant), number)


TEXT = Kind("text", str)
EXPRESSION = Kind("text", str, free=True)
SECONDS = Kind("seconds from 0 to 3600, such as 10 or 0.5", _parse_seconds, _write_number)
FLAG = Kind(
    "true or false", _parse_word({"true": True, "false": False}), lambda flag: str(flag).lower()
)
COUNT = whole_number(1)
HTTP_PORT = Kind(
    "a port from 0 (any free one) to 65535, or -1 (off)", whole_number(-1, 65535).parse
)
HTTP_PORTS = Kind(
    f"{HTTP_PORT.allowed}; or several, separated by ';'",
    _parse_ports,
    lambda ports: ";".join(map(str, ports)) or "-1",
)
PORT_OR_OFF = Kind(HTTP_PORT.allowed, _parse_port_or_off)
NAMES = Kind("names separated by ';'", _parse_names, ";".join)
PRICE = Kind("dollars, such as 0.125", _parse_price, repr)
MAP = Kind(
    "table:database.collection, separated by ';'",
    _parse_map,
    lambda pairs: ";".join(map(":".join, pairs)),
)
BUDGET = Kind(
    "capacity units a second, such as 200; a share of the provisioned, such as 50%; none; auto",
    _parse_budget,
    _write_budget,
)
