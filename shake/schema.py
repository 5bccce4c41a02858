"""What a DynamoDB table looks like from outside: its items, its keys, its indexes, its size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

#: A parsed DynamoDB value, ``{"S": "a"}``, and a parsed item, ``{"name": value, ...}``.
Typed: TypeAlias = dict[str, Any]
Item: TypeAlias = dict[str, Typed]

#: Seconds for which a stream keeps a change. OLD is the age from which on a user should look into
#: a change that only the stream holds.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
RETENTION = 24 * 3600.0
OLD = RETENTION / 2
#: Seconds by which records can be trimmed early, or the source's clock can differ from this one.
TRIM_TOLERANCE = 3600.0


@dataclass(frozen=True, slots=True)
class Attribute:
    """A key attribute: its name and its type, ``S``, ``N`` or ``B``."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Keys:
    """A key schema: partition key, and sort key where there is one."""

    partition: Attribute
    sort: Attribute | None = None

    def __iter__(self) -> Iterator[Attribute]:
        yield self.partition
        if self.sort is not None:
            yield self.sort


@dataclass(frozen=True, slots=True)
class SecondaryIndex:
    """A global or local secondary index, by name and key schema.

    A global one has up to four attributes of each kind.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.DesignPattern.MultiAttributeKeys.html
    """

    name: str
    partition: tuple[Attribute, ...]
    sort: tuple[Attribute, ...] = ()
    local: bool = False

    @property
    def keys(self) -> tuple[Attribute, ...]:
        """All key attributes, in their order."""
        return self.partition + self.sort


@dataclass(frozen=True, slots=True)
class Origin:
    """Distinguishes one table from every other of the same name.

    ``created`` is Unix seconds. A field is empty, or 0, where the source does not show it.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
    """

    arn: str = ""
    table_id: str = ""
    created: float = 0.0

    def difference(self, other: Origin) -> str:
        """What shows that ``other`` is another table, "" where nothing does.

        A field that either lacks is not compared.
        """
        if self.arn and other.arn and self.arn != other.arn:
            return f"its ARN is {other.arn} and was {self.arn}"
        if self.table_id and other.table_id and self.table_id != other.table_id:
            return f"its TableId is {other.table_id} and was {self.table_id}"
        if self.created and other.created and abs(self.created - other.created) >= 0.001:
            return f"it was created at {_date(other.created)}, and the first one at " + _date(
                self.created
            )
        return ""

    def filled(self, other: Origin) -> Origin:
        """The same, with what ``other`` has where this one lacks it."""
        return Origin(
            self.arn or other.arn, self.table_id or other.table_id, self.created or other.created
        )


#: Of a table of which nothing is known.
UNKNOWN = Origin()


@dataclass(frozen=True, slots=True)
class Table:
    """A table as DescribeTable gives it.

    ``items`` and ``bytes`` are DynamoDB's own estimates, which AWS refreshes every six hours.
    ``read_capacity`` is the provisioned read capacity in units a second, 0 where the table is on
    demand. ``read_maximum`` is the most that an on-demand table is allowed, 0 where its owner has
    set none. ``infrequent_access``: its table class is DynamoDB Standard-IA. ``key_arn`` is the KMS
    key that encrypts it, where DynamoDB names one. ``in_aws``: the endpoint is one of AWS.
    ``left_out`` says, in words, which parts of the description are not copied since shake does not
    know them.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
    """

    name: str
    keys: Keys
    indexes: tuple[SecondaryIndex, ...] = ()
    items: int = 0
    bytes: int = 0
    read_capacity: int = 0
    read_maximum: int = 0
    infrequent_access: bool = False
    key_arn: str = ""
    in_aws: bool = False
    origin: Origin = UNKNOWN
    left_out: tuple[str, ...] = ()


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


class Question(NamedTuple):
    """A shard, and a position in it: where it starts and the last number that was read.

    Without a position, whether there is such a shard; without a shard, whether there is the stream.
    """

    shard: str = ""
    start: str = ""
    sequence: str = ""
