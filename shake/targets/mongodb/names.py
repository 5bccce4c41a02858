"""Names the staging collection of a copy, and the collections that it replaces."""

from __future__ import annotations

import hashlib
import re

from shake.targets.mongodb.namespaces import NAMESPACE_BYTES, SHARDED_NAMESPACE_BYTES

#: Bytes that the longest suffix takes: ``.shake-`` and two numbers.
_SUFFIX_BYTES = 32
_STAGING = re.compile(r"\.shake-(\d+)-(\d+)")
_REPLACED = re.compile(r"\.shake-(old|spare)-[0-9a-f]*")


def staging_name(namespace: str, stamp: int, run: int) -> str:
    """Where a run of a copy stores what is to become ``namespace``."""
    return f"{staging_stem(namespace)}.shake-{stamp}-{run}"


def replaced_name(namespace: str, uuid: str) -> str:
    """Where the collection with this UUID goes when a copy takes its name from it."""
    return f"{staging_stem(namespace)}.shake-old-{uuid[:16]}"


def spare_name(namespace: str, name: str) -> str:
    """Where the collection is made that is to get this name."""
    return f"{staging_stem(namespace)}.shake-spare-{_digest(name)}"


def run_of(namespace: str, name: str) -> tuple[int, int] | None:
    """The stamp and run of a name that :func:`staging_name` gave, None for every other name."""
    found = _STAGING.fullmatch(_suffix(namespace, name))
    return (int(found[1]), int(found[2])) if found else None


def is_replaced(namespace: str, name: str) -> bool:
    """Whether :func:`replaced_name` or :func:`spare_name` gave the name."""
    return _REPLACED.fullmatch(_suffix(namespace, name)) is not None


def staging_stem(namespace: str) -> str:
    """The namespace; if it is too long for the suffix, its beginning with a digest of it."""
    most = min(NAMESPACE_BYTES, SHARDED_NAMESPACE_BYTES) - _SUFFIX_BYTES
    if len(namespace.encode()) <= most:
        return namespace
    return f"{namespace.encode()[: most - 17].decode(errors='ignore')}-{_digest(namespace)}"


def _suffix(namespace: str, name: str) -> str:
    stem = staging_stem(namespace)
    return name[len(stem) :] if name.startswith(stem) else ""


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
