"""Reads documents in batches, of which Python decodes none.

pymongo's own raw batches make an object of each document on the way, which costs several times as
much as all else that is done with it here.
"""

from __future__ import annotations

from typing import Any

import bson
from pymongo.cursor import RawBatchCursor

from shake import codec


class Batches(RawBatchCursor[Any]):
    """A raw batch cursor that cuts an answer apart by the codec.

    Where the driver's inside is not what is expected here, its own way serves.
    """

    def _unpack_response(
        self, response: Any, cursor_id: Any, codec_options: Any, *args: Any, **more: Any
    ) -> Any:
        try:
            rest, documents = codec.cut_reply(response.raw_command_response())
            answer: dict[str, Any] = bson.decode(rest)
        except (AttributeError, TypeError, ValueError, bson.errors.InvalidBSON):
            return super()._unpack_response(response, cursor_id, codec_options, *args, **more)
        cursor = answer.get("cursor", {})
        for name in ("firstBatch", "nextBatch"):
            if name in cursor:
                cursor[name] = [documents] if documents else []
        return [answer]
