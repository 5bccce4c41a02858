"""shake with nodes on this machine whose messages are sent one by one, not collected."""

from __future__ import annotations

import sys

from shake.cli.supervisor import main
from shake.nodes import local
from shake.nodes.connection import MessageStream
from shake.process.spawn import spawn

if __name__ == "__main__":
    MessageStream._flush_soon = MessageStream._flush_now  # type: ignore[method-assign]
    if sys.argv[1].isdecimal():  # an agent: its first argument is a descriptor
        local.main()
    else:
        vars(local)["spawn"] = lambda module, *arguments: spawn(
            "benchmarks.uncollected", *arguments
        )
        raise SystemExit(main())
