"""Asks the source again before an answer counts that would end the task: one can be stale."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from shake.source.contract import Source
from shake.stream.suspicion import Proof, Suspicions

T = TypeVar("T")

log = logging.getLogger("shake")


def agreed(
    source: Source,
    ask: Callable[[], T],
    problem: Callable[[T], str],
    proof: Proof,
    on_suspicion: Callable[[str], None] = log.debug,
) -> T:
    """What ``ask`` returns: the first good answer, or the last of those that prove a problem.

    ``problem`` says what is wrong with an answer, or "". ``on_suspicion`` gets that before each
    further question.
    """
    suspicions = Suspicions()
    while True:
        asked = time.monotonic()
        found = ask()
        text = problem(found)
        if not text or suspicions.add("", text, asked, proof):
            return found
        on_suspicion(text)
        source.wait(proof.every)
