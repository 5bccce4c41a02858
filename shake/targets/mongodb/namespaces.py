"""Where a table goes: ``database.collection``, and which names MongoDB refuses."""

from __future__ import annotations

#: Bytes of a database's name, and of a whole namespace, unsharded and sharded.
#: Source: https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
DATABASE_BYTES = 63
NAMESPACE_BYTES = 255
SHARDED_NAMESPACE_BYTES = 235

DATABASE_REFUSES = frozenset('/\\. "$*<>:|?\0')
SYSTEM_DATABASES = frozenset({"admin", "config", "local"})


def namespace_problem(namespace: str, *, sharded: bool = False) -> str | None:
    """Why MongoDB, or its driver, refuses this namespace, or None."""
    database, dot, collection = namespace.partition(".")
    limit = SHARDED_NAMESPACE_BYTES if sharded else NAMESPACE_BYTES
    if not database or not dot or not collection:
        return f"{namespace!r} is not of the form database.collection"
    if database in SYSTEM_DATABASES:
        return f"{namespace}: database {database} belongs to MongoDB itself"
    if wrong := DATABASE_REFUSES & set(database):
        return f"{namespace}: a database's name cannot hold {', '.join(map(repr, sorted(wrong)))}"
    if len(database.encode()) > DATABASE_BYTES:
        return f"{namespace}: the database's name has more than {DATABASE_BYTES} bytes"
    if "$" in collection or "\0" in collection:
        return f"{namespace}: a collection's name cannot hold $ or U+0000"
    if collection.startswith("system."):
        return f"{namespace}: a collection's name cannot start with system."
    if collection.startswith(".") or collection.endswith(".") or ".." in collection:
        return (
            f"{namespace}: a collection's name cannot start or end with a dot, nor hold two in a "
            "row"
        )
    if len(namespace.encode()) > limit:
        return f"{namespace}: the name has more than {limit} bytes; shorten it by namespace.map"
    return None
