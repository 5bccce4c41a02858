"""Typed values of DynamoDB, compared as DynamoDB does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any


def meaning(typed: dict[str, Any]) -> Any:
    """A value that compares as DynamoDB's do: numbers by value, sets in any order."""
    [(tag, value)] = typed.items()
    match tag:
        case "N":
            return tag, Decimal(value)
        case "NS":
            return tag, frozenset(map(Decimal, value))
        case "SS" | "BS":
            return tag, frozenset(value)
        case "L":
            return tag, [meaning(element) for element in value]
        case "M":
            return tag, {name: meaning(element) for name, element in value.items()}
    return tag, value
