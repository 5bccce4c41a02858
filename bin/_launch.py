"""Runs a command from a checkout: with its .venv if there is one, else with this Python."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def _stop(_number: int, _frame: object) -> None:
    os.write(2, b"stopped before anything began\n")
    os._exit(0)


def launch(module: str) -> int:
    """Call ``main`` of the module; return 2 if this Python cannot run it."""
    # Until the command handles signals itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    python = str(VENV / "bin/python")
    if Path(sys.prefix).resolve() != VENV.resolve() and os.path.exists(python):
        os.execv(python, [python, *sys.argv])
    if sys.version_info < (3, 10):  # noqa: UP036  # pip has not checked it here
        print("shake needs Python 3.10 or newer", file=sys.stderr)
        return 2
    sys.path[0] = str(ROOT)
    try:
        main = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        print(f"shake: {error.name} is not installed: run `make venv` first", file=sys.stderr)
        return 2
    status: int = main()
    return status
