"""The indexes of a collection against those of the contract."""

from __future__ import annotations

from shake.check.sides import Sides
from shake.errors import RunError


def check_indexes(sides: Sides) -> None:
    """Name the indexes that are not there, and build them where the check repairs."""
    missing = left = sides.stored.missing_indexes()
    refused = ""
    if missing and sides.repair:
        try:
            sides.stored.build_indexes()
        except RunError as error:
            refused = str(error)
        left = sides.stored.missing_indexes()
    for index in missing:
        repaired = index not in left
        note = "" if repaired else refused
        sides.differ("index", None, fields=(str(index),), repaired=repaired, note=note)
