"""``shake bad``: lists the items that cannot be stored, and are kept."""

from __future__ import annotations

import argparse
import contextlib
import json

from shake.checkpoint.kept import KeptItem, all_kept
from shake.checkpoint.store import open_store
from shake.cli import command, streams
from shake.cli.definition import Command
from shake.config import Loaded, Redactor
from shake.status.figures import many
from shake.status.logs import one_line

LISTED, FAILED, WRONG = 0, 1, 2


def _run(options: argparse.Namespace) -> int:
    def body(loaded: Loaded, redactor: Redactor) -> int:
        with contextlib.closing(open_store(loaded.config, writable=False)) as store:
            items = all_kept(store)
        for item in items:
            streams.say(_json(item) if options.json else _text(item))
        kept = (
            f"{many(len(items), 'item')} kept, and not stored; shake check"
            f"{command.given_file(options)} --repair stores what can be stored by now"
        )
        if not options.json:
            streams.say(kept if items else "no item is kept")
        return LISTED

    return command.run(options, body, failed=command.failed_or_wrong, stopped=("stopped", FAILED))


def _json(item: KeptItem) -> str:
    document = {
        "table": item.table,
        "key": json.loads(item.key),
        "reason": item.reason,
        "from": item.origin,
        "time": item.time,
        "older_document": item.older,
        "item": json.loads(item.item),
    }
    return json.dumps(document)


def _text(item: KeptItem) -> str:
    older = "; the target has an older document of this key" if item.older else ""
    return (
        f"table {item.table}: {one_line(item.key)}: {one_line(item.reason)}\n"
        f"    from {item.origin}, kept at {item.time}{older}"
    )


def _define(parser: argparse.ArgumentParser) -> None:
    command.add_configuration(parser)
    command.add_flags(parser, {"--json": "print each item as a line of JSON, with its attributes"})


BAD = Command(
    name="bad",
    summary="list the items that cannot be stored",
    description="Lists the items that the target cannot hold, and that the task has kept beside "
    "its checkpoints (bad.items = keep): key, reason, where each came from, and when. It changes "
    "nothing.",
    examples=(
        ("list them", "{prog} --conf my.conf"),
        ("with all attributes, as lines of JSON", "{prog} --conf my.conf --json"),
    ),
    statuses={
        LISTED: "listed, or none is kept",
        FAILED: "the checkpoint store cannot be read",
        WRONG: "wrong command line or configuration",
    },
    define=_define,
    act=_run,
)
