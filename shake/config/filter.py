"""The scan filter, in the syntax of NimoShake's two keys."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from shake.errors import UsageError

_EXPRESSION = "full.read.filter_expression"
_VALUES = "full.read.filter_attributevalues"

#: A value's placeholder, the index of a list, or a name and, behind it, the parenthesis that makes
#: it a function. The language has no literals, so a word of digits is a name too.
_WORD = re.compile(r":\w+|\[\s*\d+\s*\]|(?P<name>\w[\w-]*)(?P<call>\s*\()?")
#: Words of the language, in upper or lower case, which no attribute is called by.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html
_OPERATORS = frozenset({"AND", "BETWEEN", "IN", "NOT", "OR"})


@dataclass(frozen=True, slots=True)
class ScanFilter:
    """A FilterExpression and its values, each as (name without the colon, type, value as text).

    Types are S, N, B (base64) and BOOL (true, false). A filter expression holds no literals, so a
    colon in it always begins a placeholder.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ExpressionAttributeValues.html
    """

    expression: str
    values: tuple[tuple[str, str, str], ...]

    @classmethod
    def parse(cls, expression: str | None, values: str | None) -> ScanFilter | None:
        """Read name```type```value~~~name```type```value...; None where both texts are absent.

        Raises UsageError for values that are malformed, missing, not used or given twice.
        """
        if expression is None and values is None:
            return None
        if expression is None:
            raise UsageError(f"{_VALUES} is set, but {_EXPRESSION} is not: set both or none")
        parsed = tuple(_value(entry) for entry in values.split("~~~")) if values else ()
        names = [name for name, _, _ in parsed]
        used = set(re.findall(r":(\w+)", expression))
        for name in names:
            if name not in used:
                raise UsageError(f"{_VALUES}: {name} is not used in {_EXPRESSION}, as :{name}")
            if names.count(name) > 1:
                raise UsageError(f"{_VALUES}: {name} is given twice; keep one")
        if "#" in expression:
            raise UsageError(f"{_EXPRESSION}: write names as they are, without # or placeholders")
        if missing := sorted(used - set(names)):
            raise UsageError(f"{_EXPRESSION}: :{missing[0]} has no value in {_VALUES}")
        return cls(expression, parsed)

    def request(self) -> dict[str, Any]:
        """The fields of a Scan request.

        Each attribute name gets a placeholder, since DynamoDB reserves hundreds of words.
        Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
        """
        placeholders: dict[str, str] = {}

        def replace(word: re.Match[str]) -> str:
            name = word["name"]
            if not name or word["call"] or name.upper() in _OPERATORS:
                return word[0]
            return placeholders.setdefault(name, f"#n{len(placeholders)}")

        fields: dict[str, Any] = {"FilterExpression": _WORD.sub(replace, self.expression)}
        if placeholders:
            names = {placeholder: name for name, placeholder in placeholders.items()}
            fields["ExpressionAttributeNames"] = names
        if self.values:
            fields["ExpressionAttributeValues"] = {
                f":{name}": {kind: value == "true" if kind == "BOOL" else value}
                for name, kind, value in self.values
            }
        return fields

    def with_names(self, text: str) -> str:
        """What DynamoDB says of the request, with the names in place of their placeholders."""
        names = self.request().get("ExpressionAttributeNames", {})
        return re.sub(r"#n\d+", lambda found: names.get(found[0], found[0]), text)


#: Where a further entry begins, which is not separated from this one.
_ENTRY = re.compile(r"```\s*:?\w+\s*```\s*(S|N|B|BOOL)\s*```", re.IGNORECASE)


def _value(entry: str) -> tuple[str, str, str]:
    parts = entry.split("```", 2)
    if len(parts) < 3 or _ENTRY.search(parts[2]):
        raise UsageError(
            f"{_VALUES}: {entry.strip()!r} is not name```type```value (entries separated by ~~~)"
        )
    name, kind, value = parts[0].strip().removeprefix(":"), parts[1].strip().upper(), parts[2]
    if not re.fullmatch(r"\w+", name):
        raise UsageError(f"{_VALUES}: the name {name!r} is not made of letters, digits and _")
    return name, kind, _checked(name, kind, value)


def _checked(name: str, kind: str, value: str) -> str:
    """The value as DynamoDB takes it, by its type."""
    if kind == "S":
        return value
    value = value.strip()
    if kind == "N" and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
        return value
    if kind == "BOOL" and value.lower() in ("true", "false"):
        return value.lower()
    if kind == "B" and _is_base64(value):
        return value
    if kind in ("N", "BOOL", "B"):
        raise UsageError(f"{_VALUES}: {name}: {value!r} is not of the type {kind}")
    raise UsageError(f"{_VALUES}: {name}: the type {kind!r} is not one of S, N, B, BOOL")


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except ValueError:
        return False
    return True
