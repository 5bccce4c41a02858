"""Makes the example configuration, ``deploy/shake.conf``, from the declared keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from shake.config.declared_keys import KEYS
from shake.config.key_type import Key

_HEAD = """\
# Configuration of shake, with every key. Made by `make generated`.
#
# Set what is required, and remove the # before each other key that you change. Each key can also
# be given on the command line (--set key=value) and in the environment (SHAKE_KEY, with dots as
# underscores). Give secrets by the environment.
"""

#: What stands in the example for a value that only the user has.
_REQUIRED = {"id": "shop", "target.address": "mongodb://127.0.0.1:27017/?replicaSet=rs0"}


def example() -> str:
    """A file that loads, with every key explained."""
    return _HEAD + "".join(f"{line}\n" for key in KEYS for line in _lines(key))


def _lines(key: Key) -> Iterator[str]:
    yield ""
    yield from textwrap.wrap(key.doc, 98, initial_indent="# ", subsequent_indent="# ")
    yield from textwrap.wrap(
        f"Value: {key.kind.allowed}.", 98, initial_indent="# ", subsequent_indent="# "
    )
    if key.shapes_data:
        yield "# It cannot change after the copy of a table has begun."
    if key.required:
        yield f"{key.name} = {_REQUIRED[key.name]}"
    else:
        yield f"#{key.name} = {key.default_text}".rstrip()
