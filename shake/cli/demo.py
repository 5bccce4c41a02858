"""``shake-demo``: a whole migration on this machine, from DynamoDB Local into MongoDB."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from shake.cli import check, supervisor
from shake.cli.command import positive
from shake.cli.definition import Command
from shake.control.address import socket_path
from shake.control.client import ask
from shake.control.commands import Finish
from shake.demo import fetch
from shake.demo.mongo import mongo_server
from shake.demo.orders import TABLE, seed
from shake.demo.servers import DynamoDBLocal, expect_free
from shake.demo.story import Story
from shake.errors import RefusedError, RunError, ShakeError
from shake.status.progress import Screen, make_reporter

_ID = "shake-demo"
#: Scan calls a second, which make the copy last.
_CALLS = 20
_CONF = """\
id = {id}
sync_mode = all
pid_path = {folder}
http_profile = {port}
http.linger = 0
log.level = warn
incr.margin = 1
qps.full = {calls}
qps.full.batch_num = {batch}

source.endpoint_url = {source}
source.region = us-east-1
source.access_key_id = local
source.secret_access_key = only-for-the-demo

target.address = {target}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``shake-demo``; return 0 when source and target are equal at the end."""
    return _run(DEMO.parser().parse_args(argv))


def _run(options: argparse.Namespace) -> int:
    try:
        return _demo(options)
    except ShakeError as error:
        print(f"{options.prog}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 0


def _define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end by itself")
    for option, default, text in (
        ("--items", 20_000, "items to migrate"),
        ("--seconds", 30, "seconds that the copy lasts, by a limit of Scan calls"),
        ("--workers", 2, "worker processes"),
        ("--port", 9340, "port of the status page"),
    ):
        parser.add_argument(
            option, type=positive, default=default, metavar="N", help=f"{text} ({default})"
        )


DEMO = Command(
    name="demo",
    program="shake-demo",
    summary="migrate a table between two embedded servers",
    description="Shows a whole migration on this machine: an embedded DynamoDB, an embedded "
    "MongoDB, a copy during which a worker process is killed, live writes that are followed, a "
    "status page, and the proof that both sides are equal. It fetches the servers once, by npm and "
    "pip.",
    examples=(
        ("show it, and keep the status page up until Ctrl-C", "{prog}"),
        ("migrate more items, and end", "{prog} --items 100000 --once"),
    ),
    statuses={
        0: "source and target are equal, or stopped by Ctrl-C",
        1: "failed; the last line says why",
        2: "wrong command line",
        3: "refused, such as when the port is in use",
    },
    define=_define,
    act=_run,
)


def _demo(options: argparse.Namespace) -> int:
    """Start the servers, and migrate from one to the other."""
    try:
        expect_free(options.port)
    except OSError as error:
        raise RefusedError(
            f"port {options.port} of the status page: {error.strerror}; choose another with --port"
        ) from error
    screen = Screen(make_reporter(sys.stdout))

    def say(text: str) -> None:
        screen.print(f"demo: {text}")

    fetch.dynamodb_local(say)
    mongo = mongo_server(notice=say)
    say(f"starting the source (DynamoDB Local) and the target ({mongo.product})")
    with (
        DynamoDBLocal() as source,
        mongo as target,
        tempfile.TemporaryDirectory(prefix="shake-demo-") as folder,
    ):
        say(f"seeding table {TABLE} with {options.items:,} items")
        seed(source.url, options.items)
        batch = max(1, options.items // (_CALLS * options.seconds))
        given = {"id": _ID, "folder": folder, "port": options.port, "calls": _CALLS, "batch": batch}
        conf = Path(folder, "demo.conf")
        conf.write_text(_CONF.format(**given, source=source.url, target=target.uri))
        command = ["--conf", str(conf)]

        def finish() -> None:
            say(f"shake control finish {' '.join(command)}")
            for reply in ask(socket_path(folder, _ID), [Finish()]):
                say(reply.line)

        page = f"http://127.0.0.1:{options.port}/"
        story = Story(source.url, target.uri, _ID, page, options.items, say, finish)
        return _migrate(options, command, story, screen)


def _migrate(options: argparse.Namespace, command: list[str], story: Story, screen: Screen) -> int:
    """Run the task while the story acts on it, and check the result; return the exit status."""
    say, page = story.say, story.page
    verified: list[int] = []

    def on_good_end() -> None:
        if not story.complete:  # Ctrl-C, before all was shown
            return
        for number in (signal.SIGINT, signal.SIGTERM):  # the run has ended: Ctrl-C ends this
            signal.signal(number, signal.default_int_handler)
        arguments = [*command, "--set", "qps.full=1000"]
        say(f"shake-check {' '.join(arguments)}")
        screen.flush()
        verified.append(check.main(arguments))
        if verified == [0]:
            text = "demo: a worker was killed, changes went on, and both sides are equal"
            Console(file=sys.stdout).print(text, style="bold green", highlight=False)
        if not options.once:
            say(f"the status page stays up at {page} until Ctrl-C")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)

    arguments = [*command, "--workers", str(options.workers)]
    say(f"shake-supervisor {' '.join(arguments)}")
    say(f"status page: {page}")
    say(f"{_CALLS} Scan calls a second at most, so that there is something to watch")
    threading.Thread(target=story.run, daemon=True).start()
    status = supervisor.main(arguments, on_good_end, screen)
    if story.failure:
        raise RunError(story.failure)
    return status or max(verified, default=0)  # none, where it was stopped before


if __name__ == "__main__":
    sys.exit(main())
