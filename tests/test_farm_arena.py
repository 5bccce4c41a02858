"""The arena: memory that its workers fill, its writers read, and no death takes away."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from shake.errors import Stopped
from shake.process import arena
from shake.process.arena import SLOT_BYTES, Arena, Slots

MIB = 1024 * 1024


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = arena.create(3)
    yield descriptor
    os.close(descriptor)


def committed(descriptor: int) -> int:
    return os.fstat(descriptor).st_blocks * 512


def test_what_a_worker_fills_a_writer_reads(descriptor: int) -> None:
    worker, writer = Arena(descriptor, writable=True), Arena(descriptor, writable=False)
    for number in range(3):
        worker.slot(number)[:] = bytes([number + 1]) * SLOT_BYTES
    for number in range(3):
        assert len(writer.slot(number)) == SLOT_BYTES
        assert writer.slot(number) == bytes([number + 1]) * SLOT_BYTES


def test_a_writer_cannot_change_a_slot(descriptor: int) -> None:
    with pytest.raises(TypeError):
        Arena(descriptor, writable=False).slot(0)[0] = 1


def test_a_slot_costs_no_memory_before_it_is_filled(descriptor: int) -> None:
    worker = Arena(descriptor, writable=True)
    assert committed(descriptor) == 0
    worker.slot(1)[:MIB] = b"x" * MIB
    assert committed(descriptor) == MIB


@pytest.mark.skipif(not hasattr(mmap, "MADV_REMOVE"), reason="this system cannot give it back")
def test_the_memory_of_a_large_page_goes_back_and_its_neighbours_stay(descriptor: int) -> None:
    worker = Arena(descriptor, writable=True)
    for number in range(3):
        worker.slot(number)[:] = b"x" * SLOT_BYTES
    worker.trim(1, SLOT_BYTES)
    assert committed(descriptor) == 2 * SLOT_BYTES + 4 * MIB
    assert worker.slot(0) == worker.slot(2) == b"x" * SLOT_BYTES
    worker.slot(1)[:] = b"y" * SLOT_BYTES  # as good as new
    assert Arena(descriptor, writable=False).slot(1) == b"y" * SLOT_BYTES


def test_the_memory_of_an_ordinary_page_stays_to_be_filled_again(descriptor: int) -> None:
    worker = Arena(descriptor, writable=True)
    worker.slot(0)[: 4 * MIB] = b"x" * (4 * MIB)
    worker.trim(0, 4 * MIB)
    assert committed(descriptor) == 4 * MIB


def test_what_a_killed_worker_filled_is_still_there(descriptor: int) -> None:
    code = (
        "import sys, time\n"
        "from shake.process.arena import Arena\n"
        f"Arena({descriptor}, writable=True).slot(2)[:5] = b'hello'\n"
        "print('filled', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=(descriptor,), stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"filled\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert Arena(descriptor, writable=False).slot(2)[:5].tobytes() == b"hello"


def test_where_memory_files_have_no_name_a_file_that_is_gone_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = arena.create(1)
    Arena(descriptor, writable=True).slot(0)[:1] = b"x"
    assert Arena(descriptor, writable=False).slot(0)[:1].tobytes() == b"x"
    assert os.fstat(descriptor).st_nlink == 0
    os.close(descriptor)


def test_tables_that_give_nothing_back_leave_slots_to_the_next_one() -> None:
    """However many leases of theirs have ended meanwhile."""
    slots, held, leases = Slots(), Counter[int](), itertools.count()
    for slot in range(32):
        slots.give(slot)
    for table in range(5):
        with contextlib.suppress(Stopped):
            while slots.take(table, next(leases), leaving=lambda: True) >= 0:
                held[table] += 1
    assert held == {0: 16, 1: 8, 2: 4, 3: 2, 4: 1}
    assert slots.borrow(leaving=lambda: True) >= 0
