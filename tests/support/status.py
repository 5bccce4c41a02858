"""What a run says of itself by HTTP."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def status(port: int) -> Any:
    """What ``/status`` shows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
        return json.load(answer)


def slots_used(port: int) -> int:
    """Slots that hold something which the target has not acknowledged."""
    return sum(process["slots_used"] or 0 for process in status(port)["processes"])
