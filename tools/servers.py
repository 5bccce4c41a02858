"""Starts the embedded source and target to work with by hand, until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys

from shake.demo import fetch
from shake.demo.mongo import mongo_server
from shake.demo.servers import DynamoDBLocal
from shake.errors import ShakeError


def main() -> int:
    """Print the configuration that names both servers, and wait."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        fetch.dynamodb_local(_say)
        mongo = mongo_server(notice=_say)
        with DynamoDBLocal() as source, mongo as target, contextlib.suppress(KeyboardInterrupt):
            print("id = try")
            print(f"source.endpoint_url = {source.url}")
            print("source.region = us-east-1")
            print("source.access_key_id = local")
            print("source.secret_access_key = only-for-the-demo")
            print(f"target.address = {target.uri}")
            _say("both servers are up, and empty; Ctrl-C ends them and deletes their data")
            while True:
                signal.pause()
    except ShakeError as error:
        print(f"make servers: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _say(text: str) -> None:
    print(f"# {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
