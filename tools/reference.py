"""Makes the key reference, ``docs/configuration.md``, from the declared keys."""

from __future__ import annotations

import html
import re

from shake.config.declared_keys import KEYS
from shake.config.key_type import Key

_HEAD = """\
# Configuration

<!-- Made by make generated; edit shake/config/declared_keys.py instead. -->

A configuration file has one `key = value` in each line. A line that starts with `#` is a comment.
An empty value means the default. An unknown key is an error, which names the nearest known key.

Each key can also be given on the command line, as `--set key=value`, or in the environment:
`SHAKE_` and the key in capitals, with dots as underscores. The command line beats the environment,
and the environment beats the file. `--print-config` prints the effective values, each behind
a comment that says where it is from, and masks secrets. What it prints is a configuration file.

A key that *shapes the data* cannot change after the copy of a table has begun. The next start is
then refused with status 3, and names the key. The same is true of the collection that
`namespace.map` chooses for a table.

A name in `filter.collection.white`, `filter.collection.black` or `namespace.map` that no table can
have is refused (status 2), and so is an ARN. One that selects no table is a warning of the plan. In
`namespace.map` a `*` stands once on both sides: `prod-*:shop.*` puts `prod-orders` into
`shop.orders`. A plain name counts before a pattern, and of the patterns the first.

| key | default | meaning | value | shapes the data |
|---|---|---|---|---|
"""


def reference() -> str:
    """The page, as Markdown."""
    return _HEAD + "".join(map(_row, KEYS))


def _row(key: Key) -> str:
    names = "<br>also ".join(f"`{name}`" for name in key.names)
    cells = names, _default(key), _text(key.doc), _text(key.kind.allowed), _shapes(key)
    return f"| {' | '.join(cells)} |\n"


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return f"`{key.default_text}`" if key.default_text else "none"


def _shapes(key: Key) -> str:
    return "yes" if key.shapes_data else _text(key.limit)


def _text(text: str) -> str:
    """Plain text as the content of a cell, in which no character is markup."""
    return re.sub(r"[*_`~|\\]", r"\\\g<0>", html.escape(text, quote=False))
