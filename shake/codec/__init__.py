"""The codec's public door, and the only place that chooses an implementation.

``SHAKE_CODEC=reference`` in the environment is reserved to force the plain Python one, which
today is the only one.
"""

from __future__ import annotations

from shake.codec.contract import CorruptPage, Options, ScanPage
from shake.codec.reference import scan_page

#: The name of the implementation in use.
IMPLEMENTATION = "reference"

__all__ = ["IMPLEMENTATION", "CorruptPage", "Options", "ScanPage", "scan_page"]
