"""The size of an item as DynamoDB counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Bytes of an item, given as DynamoDB JSON.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(_length(name) + _stored(value) for name, value in item.items())


def _stored(typed: Mapping[str, Any]) -> int:
    [(tag, value)] = typed.items()
    match tag:
        case "S":
            return _length(value)
        case "N":
            return len(value.strip("-0.")) // 2 + 2
        case "B":
            return len(value) * 3 // 4
        case "L":
            return 3 + sum(1 + _stored(element) for element in value)
        case "M":
            return 3 + sum(1 + _length(name) + _stored(inner) for name, inner in value.items())
        case "SS" | "NS" | "BS":
            return sum(_stored({tag[0]: element}) for element in value)
    return 1


def _length(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
