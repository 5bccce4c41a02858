"""The codec in plain Python: what every other implementation must do, byte for byte."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeAlias

import bson
import orjson
from bson.errors import InvalidDocument
from bson.objectid import ObjectId

from shake.codec.contract import Body, CorruptPage, Options
from shake.codec.number import exact, nearest, survives_as_double
from shake.errors import ItemError

#: https://www.mongodb.com/docs/manual/reference/limits/#mongodb-limit-BSON-Document-Size
MAX_DOCUMENT = 16 * 1024 * 1024

#: Bytes at the end of a page in which its LastEvaluatedKey is looked for; the largest key, of 3 KB
#: at most, may be six times as long as JSON.
_TAIL = 20 * 1024
_LAST_KEY = b'"LastEvaluatedKey":'

#: Characters of a key that an error shows.
SHOWN_KEY = 300

_SURROGATE = "a name or string holds a lone surrogate, which is not Unicode text"

#: A parsed DynamoDB value, ``{"S": "a"}``, and a parsed item, ``{"name": value, ...}``.
Typed: TypeAlias = dict[str, Any]
Item: TypeAlias = dict[str, Typed]
Convert: TypeAlias = Callable[[Any], Any]


def scan_page(body: Body, options: Options) -> ScanPage:
    """Parse a Scan response body. Raises CorruptPage when it is not one.

    Items are converted as they are filled in, so that an item that cannot be stored is noticed
    (ItemError) only then.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
    """
    return ScanPage(_parse(text(body)), options)


class ScanPage:
    """See contract.ScanPage."""

    def __init__(self, page: Any, options: Options) -> None:
        if type(page) is not dict:
            raise CorruptPage("the Scan response is not a JSON object")
        self._items: list[Item] = _field(page, "Items", list)
        if not all(type(item) is dict for item in self._items):
            raise CorruptPage("the Scan response holds an item that is not a JSON object")
        self.header = header(page, len(self._items))
        self.count, self.scanned, self.capacity, self.last_key = self.header
        self._encode = _encoder(options)
        self._keys = options.keys
        self._next = 0

    @property
    def done(self) -> bool:
        return self._next == self.count

    def skip(self, documents: int) -> None:
        """Go on behind this many documents."""
        self._next += documents

    def fill(self, out: memoryview, prefix: bytes, number: int, used: int = 0) -> tuple[int, int]:
        """See contract.ScanPage; ``used`` bytes of ``out`` are taken already, and count."""
        first = self._next
        while self._next < self.count:
            item = self._items[self._next]
            object_id = prefix + (number + self._next).to_bytes(5, "big")
            try:
                document = self._encode(item, object_id)
            except (ValueError, RecursionError) as error:
                raise ItemError(self._key_text(item), str(error)) from error
            end = used + len(document)
            if end > len(out):
                if used:
                    break
                reason = f"its document of {len(document)} bytes is larger than the {len(out)} of"
                raise ItemError(self._key_text(item), f"{reason} an empty slot")
            out[used:end] = document
            used = end
            self._next += 1
        return used, self._next - first

    def _key_text(self, item: Item) -> str:
        key = {key.name: item[key.name] for key in self._keys if key.name in item}
        text = _dump(key).decode()
        return text if len(text) <= SHOWN_KEY else text[:SHOWN_KEY] + "..."


def batches(documents: memoryview, most: int, most_bytes: int) -> list[tuple[int, int, int]]:
    """See contract.Codec."""
    cuts = []
    start = at = count = 0
    while at < len(documents):
        length = int.from_bytes(documents[at : at + 4], "little")
        if not 4 < length <= len(documents) - at:
            raise ValueError(f"a document of {length} bytes at {at} of {len(documents)}")
        if count and (count == most or at + length - start > most_bytes):
            cuts.append((start, at, count))
            start, count = at, 0
        at += length
        count += 1
    return cuts + [(start, at, count)] * bool(count)


def next_start(body: Body) -> bytes | None:
    """The response's ``last_key``, found at its end without a look at its items, or None.

    What follows the last ``"LastEvaluatedKey":`` up to the end makes an object, with a brace in
    front. So it closes the page and nothing else: it is the page's own member, not one of an item,
    whose end would leave a bracket too many.
    """
    end = bytes(body[-_TAIL:]).rstrip(b"\0")
    at = end.rfind(_LAST_KEY)
    if at < 1 or end[at - 1 : at] not in b", \n\r\t":
        return None
    try:
        key = orjson.loads(b"{" + end[at:])["LastEvaluatedKey"]
    except ValueError:
        return None
    return _dump(key) if key else None


def text(body: Body) -> bytes:
    """A response as bytes, without the 0 behind it."""
    if isinstance(body, bytes):
        return body
    if not len(body) or body[-1]:
        raise ValueError("the response is not followed by a 0")
    return bytes(body[:-1])


class Header(NamedTuple):
    """What a Scan response says beside its items: see contract.ScanPage."""

    documents: int
    scanned: int
    capacity: float
    last_key: bytes | None


def header(page: Typed, held: int) -> Header:
    """The header of a response that holds so many items. Raises CorruptPage."""
    count: int = _field(page, "Count", int)
    if count != held:
        raise CorruptPage(f"the Scan response says {count} items and holds {held}")
    scanned: int = _field(page, "ScannedCount", int)
    consumed = _field(page, "ConsumedCapacity", dict, {})
    capacity = float(_field(consumed, "CapacityUnits", (int, float), 0.0))
    last_key = _field(page, "LastEvaluatedKey", dict, {})
    return Header(count, scanned, capacity, _dump(last_key) if last_key else None)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # orjson refuses the whole page for one lone surrogate; json lets it through, so that the
        # item is named when it is encoded.
        try:
            text = body.decode("utf-8", "surrogatepass")
            return json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise CorruptPage(f"the Scan response is not JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _field(holder: Typed, name: str, kind: type | tuple[type, ...], default: object = None) -> Any:
    """A field of the wanted type; the default where it is absent or null."""
    value = holder.get(name)
    if value is None:
        value = default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CorruptPage(f"the Scan response has no proper {name}")
    return value


def _dump(value: object) -> bytes:
    """Compact JSON; in ASCII where a lone surrogate has no UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


# -- items to documents --------------------------------------------------------------------------
# Everything below raises ValueError, with the reason, for what cannot be stored.


def _encoder(options: Options) -> Callable[[Item, bytes], bytes]:
    """The function from an item, and the 12 bytes of an ObjectId for it, to its document."""
    if options.convert == "json":
        return partial(_json_document, options)
    return partial(_bson_document, options, _converter(options))


def _json_document(options: Options, item: Item, _: bytes) -> bytes:
    _check_keys(options, item)
    try:
        document = orjson.dumps(item)
    except TypeError as error:
        raise ValueError(_SURROGATE) from error
    return (len(document) + 4).to_bytes(4, "little") + document


def _bson_document(options: Options, convert: Convert, item: Item, object_id: bytes) -> bytes:
    _check_keys(options, item)
    renamed = options.id_prefix + "_id"
    if "_id" in item and renamed in item:
        raise ValueError(
            f"it holds both _id and {renamed}, which is where _id would go; set another convert._id"
        )
    document: dict[str, Any] = {"_id": ObjectId(object_id)}
    for name, typed in item.items():
        try:
            document[renamed if name == "_id" else name] = convert(typed)
        except ValueError as error:
            raise ValueError(f"attribute {name!a}: {error}") from error
    if options.id_mode == "key":
        key = {key.name: convert(item[key.name]) for key in options.keys}
        document["_id"] = key if len(key) > 1 else key[options.keys.partition.name]
    return _encode_bson(document)


def _encode_bson(document: dict[str, Any]) -> bytes:
    try:
        encoded = bson.encode(document)
    except UnicodeEncodeError as error:
        raise ValueError(_SURROGATE) from error
    except InvalidDocument as error:
        raise ValueError("an attribute name holds U+0000, which BSON cannot store") from error
    if len(encoded) > MAX_DOCUMENT:
        raise ValueError(f"its document of {len(encoded)} bytes is above MongoDB's limit of 16 MiB")
    return encoded


def _check_keys(options: Options, item: Item) -> None:
    for key in options.keys:
        typed = item.get(key.name)
        if type(typed) is not dict or list(typed) != [key.type]:
            raise ValueError(f"key attribute {key.name!a} is missing or not of type {key.type}")
        if (
            options.convert == "mchange"
            and options.id_mode == "key"
            and key.type == "N"
            and not survives_as_double(_string(typed["N"]))
        ):
            raise ValueError(
                f"key attribute {key.name!a} changes as a double, so that two keys could "
                "become one; use convert.type = change or id.mode = objectid"
            )


# -- values --------------------------------------------------------------------------------------
# Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html


def _converter(options: Options) -> Convert:
    """The function from a typed value, ``{"N": "1"}``, to what ``bson.encode`` takes."""

    def convert(typed: object) -> Any:
        if type(typed) is not dict or len(typed) != 1:
            raise ValueError("it is not a value with one type")
        [(tag, value)] = typed.items()
        by_type = by_tag.get(tag)
        if by_type is None:
            raise ValueError(f"its type {tag!a} is unknown")
        return by_type(value)

    def mapping(value: object) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValueError("its M is not an object")
        return {name: convert(typed) for name, typed in value.items()}

    number = {
        "change": lambda value: exact(_string(value), options.overflow),
        "mchange": lambda value: nearest(_string(value)),
        "raw": _string,
    }[options.convert]
    by_tag: dict[str, Convert] = {
        "S": _string,
        "N": number,
        "B": _binary,
        "BOOL": _boolean,
        "NULL": _null,
        "L": partial(_array, convert),
        "M": mapping,
        "SS": partial(_array, _string),
        "NS": partial(_array, number),
        "BS": partial(_array, _binary),
    }
    if options.convert == "raw":
        by_tag["NULL"] = _true
        by_tag = {tag: partial(_keep_type, tag, by_type) for tag, by_type in by_tag.items()}
    return convert


def _keep_type(tag: str, convert: Convert, value: object) -> dict[str, Any]:
    return {tag: convert(value)}


def _string(value: object) -> str:
    if type(value) is not str:
        raise ValueError("it holds something else than a JSON string")
    return value


def _binary(value: object) -> bytes:
    text = _string(value)
    try:
        # Python 3.10 takes padding without data for nothing at all.
        if len(text) % 4:
            raise ValueError("its length is no multiple of 4")
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"its binary value is not base64: {error}") from error


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError("its BOOL is neither true nor false")
    return value


def _true(value: object) -> bool:
    if value is not True:
        raise ValueError("its NULL is not true")
    return True


def _null(value: object) -> None:
    _true(value)


def _array(convert: Convert, value: object) -> list[Any]:
    if type(value) is not list:
        raise ValueError("it holds something else than a JSON array")
    return [convert(element) for element in value]
