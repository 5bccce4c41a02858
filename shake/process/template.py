"""Imports a module, and forks processes that run it: each has the imported code for nothing.

The arguments are the descriptor of a pipe, the module, and the descriptors of the sockets, one for
each process. The pids go to the pipe, with the number of the error that has prevented the others.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys


def main() -> None:
    """Fork the processes, before there is any thread, and end."""
    answer, module, ends = int(sys.argv[1]), sys.argv[2], list(map(int, sys.argv[3:]))
    run = importlib.import_module(module).main
    gc.collect()
    gc.freeze()  # a collection would write to the memory of all that is imported
    pids: list[int] = []
    error = 0
    for end in ends:
        try:
            pid = os.fork()
        except OSError as shortage:
            error = shortage.errno or 1
            break
        if not pid:
            for other in (answer, *ends):
                if other != end:
                    os.close(other)
            sys.argv = [module, str(end)]
            run()
            os._exit(0)
        pids.append(pid)
    os.write(answer, json.dumps([pids, error]).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
