"""``shake keys``: what each key of the configuration means."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from difflib import get_close_matches

from shake.cli import streams
from shake.cli.definition import Command
from shake.config.declared_keys import KEYS as CONFIGURATION_KEYS
from shake.config.key_type import Key


def _show(options: argparse.Namespace) -> int:
    width = shutil.get_terminal_size().columns - 1
    wanted: str = options.key
    exact = [key for key in CONFIGURATION_KEYS if wanted in key.names]
    found = exact or [k for k in CONFIGURATION_KEYS if any(wanted in name for name in k.names)]
    if exact:
        streams.say("\n".join(_whole(exact[0], width)))
    elif found:
        streams.say("\n".join(line for key in found for line in _short(key, width)))
    else:
        names = [name for key in CONFIGURATION_KEYS for name in key.names]
        nearest = get_close_matches(wanted.lower(), names, n=1, cutoff=0)[0]
        streams.complain(f"{options.prog}: no key has {wanted!r} in its name; nearest: {nearest}")
        return 2
    streams.let_go()
    return 0


def _short(key: Key, width: int) -> list[str]:
    return [_title(key), *_wrapped(key.doc, width)]


def _whole(key: Key, width: int) -> list[str]:
    notes = [key.doc, f"Value: {key.kind.allowed}."]
    notes += [f"Other name: {name}." for name in key.aliases]
    notes.append(f"In the environment: {key.variable}.")
    if key.shapes_data:
        notes.append("It shapes the data: it cannot change after the copy of a table has begun.")
    elif key.limit:
        notes.append(f"Note: {key.limit}.")
    if key.secret:
        notes.append("Secret: it is masked wherever it is shown.")
    return [_title(key), *(line for note in notes for line in _wrapped(note, width))]


def _title(key: Key) -> str:
    if key.default_text:
        return f"{key.name} = {key.default_text}"
    return f"{key.name} ({'required' if key.required else 'default: none'})"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 40), initial_indent="    ", subsequent_indent="    ")


def _define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "key", nargs="?", default="", metavar="KEY", help="a key, or a part of the names of some"
    )


KEYS = Command(
    name="keys",
    summary="explain the keys of the configuration",
    description="Prints every key of the configuration with its default and its meaning, or all "
    "about one key: values, other names, and whether it can change once a copy has begun.",
    examples=(
        ("every key", "{prog}"),
        ("all about one key", "{prog} target.db.exist"),
        ("the keys of the source", "{prog} source."),
    ),
    statuses={0: "printed", 2: "no such key, or wrong command line"},
    define=_define,
    act=_show,
)
