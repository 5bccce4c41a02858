"""Writes the Scan requests of one table's copy, positions spliced in as the bytes they came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from shake.config import ScanFilter


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """How one table is scanned: in ``total_segments`` parts, ``limit`` items a page (None: 1 MB).

    ``attributes``: only these are sent. Not with a filter.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
    """

    table: str
    total_segments: int
    limit: int | None = None
    consistent: bool = False
    filter: ScanFilter | None = None
    attributes: tuple[str, ...] = ()

    def request(self, segment: int, start: bytes | None) -> bytes:
        """The request for one page of ``segment`` (from 0).

        ``start`` is the raw JSON of the last page's LastEvaluatedKey, None at the beginning. It
        goes back as it came: a number that passes through a float loses the key.
        """
        request: dict[str, Any] = {
            "TableName": self.table,
            "Segment": segment,
            "TotalSegments": self.total_segments,
            "ConsistentRead": self.consistent,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if self.limit is not None:
            request["Limit"] = self.limit
        if self.filter is not None:
            request |= self.filter.request()
        if self.attributes:
            names = {f"#a{n}": name for n, name in enumerate(self.attributes)}
            request |= {"ProjectionExpression": ",".join(names), "ExpressionAttributeNames": names}
        body = orjson.dumps(request)
        return body if start is None else b'%b,"ExclusiveStartKey":%b}' % (body[:-1], start)
