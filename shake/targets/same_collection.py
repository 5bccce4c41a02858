"""Whether a collection is still the one that a table is stored in."""

from __future__ import annotations

from shake.config import Config
from shake.targets.contract import Found, Location


def mismatch(
    config: Config, table: str, location: Location, found: Found | None, server: str = ""
) -> str | None:
    """What is wrong with what was found at ``location``, and what to do; None: nothing.

    ``server`` names the server that the collection was on. A renamed collection keeps its UUID. No
    advice to restore one: it would lack the changes since its backup.
    """
    anew = f"or {config.start_over(table)}"
    if found is None:
        where = f" on {server}" if server else ""
        return (
            f"collection {location.namespace}{where}, which holds table {table}, is missing: check "
            f"target.address, rename the collection back, {anew}"
        )
    if (
        location.collection_uuid
        and found.collection_uuid
        and found.collection_uuid != location.collection_uuid
    ):
        was = f" ({server})" if server else ""
        return (
            f"collection {location.namespace} is not the one that table {table} is stored in: it "
            f"was made anew, or target.address leads to another server than before{was}: set it "
            f"back, {anew}"
        )
    if problem := collation_problem(table, location.namespace, found):
        return problem
    if not found.has_key_index:
        return (
            f"collection {location.namespace} lacks the unique index on the key of table {table}, "
            f"so changes could store an item twice: build that index, {anew}"
        )
    return None


def collation_problem(table: str, namespace: str, found: Found) -> str | None:
    """Why a collection cannot hold the items of a table one by one; None where it can.

    Under a default collation the keys "a" and "A" can be one to every query and every index.
    Source: https://www.mongodb.com/docs/manual/reference/collation/
    """
    if not found.collation:
        return None
    return (
        f"collection {namespace} has a default collation ({found.collation}), by which different "
        f"keys of table {table} can be equal: create it anew without one, or give the table "
        "another namespace by namespace.map"
    )
