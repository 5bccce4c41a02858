"""Any one command of a run can land at any later moment: it loses, doubles and brings back nothing.

SHAKE_HELD_COMMANDS=all tries every case, which takes an hour; else some are drawn.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable, Iterator
from typing import get_args

import pytest

from tests.support.followed import Followed
from tests.support.held import Case, Mode, Release, Trial, Victim
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

#: The commands of a run, and which of each kind is held: so many others of it go before.
COPYING = [
    ("create", "target", (0,)),
    ("insert", "target", (0, 3, 7)),
    ("delete", "target", (0,)),
    ("confirm", "target", (1, 3)),
    ("createIndexes", "target", (0,)),
    ("renameCollection", "target", (0, 1)),
    ("insert", "checkpoint", (0, 1)),
    ("update", "checkpoint", (0, 1, 2, 3)),
    ("insert", "status", (0,)),
    ("update", "status", (0,)),
]
FOLLOWING = [
    ("update", "target", (0, 3)),
    ("delete", "target", (2,)),
    ("update", "checkpoint", (7, 9)),
    ("refreshSessions", "admin", (0,)),
]
DRAWN = 6


def cases() -> Iterator[Case]:
    """Every command, sender and moment of release; the settings that go with each are drawn."""
    for mode in get_args(Mode):
        for command, place, skips in COPYING + FOLLOWING * (mode != "full"):
            for skip in skips:
                for release in get_args(Release):
                    if mode == "full" and release == "when consistent":
                        continue
                    for victim in get_args(Victim)[: 1 + (place == "target")]:
                        case = Case(mode, "", "", command, place, skip, victim, release)
                        yield _with_settings(case)


def _with_settings(case: Case) -> Case:
    rng = random.Random(zlib.crc32(str(case).encode()))
    id_mode = rng.choice(("objectid", "key"))
    exist = rng.choice(("", "rename", "drop"))
    if (case.command, case.skip) == ("renameCollection", 1):
        exist = "rename"
    return Case(
        case.mode, id_mode, exist, case.command, case.place, case.skip, case.victim, case.release
    )


def drawn() -> list[Case]:
    every = list(cases())
    if os.environ.get("SHAKE_HELD_COMMANDS") == "all":
        return random.Random(52).sample(every, len(every))
    return random.Random(51).sample(every, DRAWN)


RELEASES: tuple[Release, ...] = ("at once", "while copying")
#: An unfinished copy is begun anew, and its last rename lands late.
RENAMES = [
    Case("resync", "objectid", "rename", "renameCollection", "target", 1, "everything", release)
    for release in RELEASES
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("case", [*RENAMES, *drawn()], ids=str)
def test_a_command_that_is_held_up_changes_nothing_whenever_it_lands(
    followed: Followed, case: Case, record_property: Callable[[str, object], None]
) -> None:
    with Wire(*followed.mongo.client.address) as wire:
        record_property("met", Trial(followed, wire, case).run())
