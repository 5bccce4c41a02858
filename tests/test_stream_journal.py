"""A shard's journal gives back what was put into it, in order, whatever process crashed."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.stream.journal import Appender, Damaged, Entry, Journal, entries

#: Sequence numbers grow, also in length.
FIRST = 999_999_999_999_999_999_990


def answer(number: int) -> Entry:
    return Entry(number % 3 + 1, 1_700_000_000.0 + number, str(FIRST + number), b"{%d}" % number)


def append(file: Path, numbers: range, *, durable: str = "", size: int = 0) -> Appender:
    """Append these answers; the appender is still open."""
    appender = Appender(file, durable, size, never)
    for number in numbers:
        one = answer(number)
        appender.append(one.records, one.created, one.sequence, memoryview(one.body))
    appender.sync()
    return appender


def never() -> None:
    raise AssertionError("nobody else holds the file")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Journal(tmp_path / "journal").file("t", "shardId-1")


def test_what_was_appended_comes_back_behind_any_number(file: Path) -> None:
    appender = append(file, range(20))
    appender.end()
    appender.close()
    everything = [answer(number) for number in range(20)]
    found = list(entries(file, "", str(FIRST + 19)))
    assert found[:-1] == everything
    assert not found[-1].body  # the end
    for number in range(20):
        assert list(entries(file, str(FIRST + number), ""))[:-1] == everything[number + 1 :]


@settings(max_examples=60)
@given(cut=st.floats(0, 1), garbage=st.binary(max_size=80), durable=st.integers(0, 6))
def test_a_torn_end_is_cut_off_and_written_again(
    tmp_path_factory: pytest.TempPathFactory, cut: float, garbage: bytes, durable: int
) -> None:
    file = tmp_path_factory.mktemp("journal") / "t" / "shardId-1.journal"
    append(file, range(durable)).close()
    synced = file.stat().st_size
    append(file, range(durable, 7)).close()
    whole = file.stat().st_size
    os.truncate(file, synced + int(cut * (whole - synced)))
    with file.open("ab") as stream:
        stream.write(garbage)
    known = str(FIRST + durable - 1) if durable else ""
    appender = Appender(file, known, synced, never)
    last = int(appender.sequence) - FIRST if appender.sequence else -1
    assert durable - 1 <= last < 7
    assert appender.found[0] == sum(answer(n).records for n in range(durable, last + 1))
    assert appender.found[1] == file.stat().st_size - synced
    appender.close()
    append(file, range(last + 1, 9), durable=known, size=synced).close()
    assert list(entries(file, "", known)) == [answer(number) for number in range(9)]


def test_a_journal_that_lacks_what_it_held_is_told(file: Path, tmp_path: Path) -> None:
    append(file, range(5)).close()
    durable, size = str(FIRST + 4), file.stat().st_size
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(Damaged, match=f"ends before record {durable}"):
        list(entries(file, "", durable))
    file.unlink()
    with pytest.raises(Damaged, match="ends before record"):
        list(entries(file, "", durable))
    with pytest.raises(Damaged, match="ends before record"):
        Appender(file, durable, size, never)
    assert list(entries(file, "", "")) == []


def test_two_never_append_at_once(file: Path) -> None:
    first = append(file, range(3))

    def leave() -> None:
        first.close()

    second = Appender(file, "", 0, leave)
    assert second.sequence == str(FIRST + 2)
    second.close()


def test_a_full_disk_leaves_whole_answers(file: Path) -> None:
    appender = append(file, range(3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 30, limits[1]))
    one = answer(3)
    try:
        with pytest.raises(OSError, match="File too large"):
            appender.append(one.records, one.created, one.sequence, memoryview(one.body))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    appender.close()
    append(file, range(3, 5)).close()
    assert list(entries(file, "", "")) == [answer(number) for number in range(5)]


def test_files_of_shards_that_are_over_go(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for table, shard in [("t", "a"), ("t", "b"), ("t", "c"), ("u", "a")]:
        append(journal.file(table, shard), range(2)).close()
    journal.drop("t", "a")
    journal.drop("t", "a")
    journal.clear("t", but=["b"])
    assert set(journal.folder.glob("*/*")) == {journal.file("t", "b"), journal.file("u", "a")}
    journal.clear("t")
    assert sorted(path.name for path in journal.folder.iterdir()) == ["u"]


@pytest.mark.parametrize("table", ["t", "a" * 170, "a.b-c_D", "_"])
def test_the_folder_of_a_table_has_its_name(tmp_path: Path, table: str) -> None:
    assert Journal(tmp_path).file(table, "a") == tmp_path / table / "a.journal"


@pytest.mark.parametrize("table", ["...", "..", "../../x", "a/b", "a" * 300, "é" * 200])
@pytest.mark.parametrize("shard", ["a", "../../../y"])
def test_whatever_a_table_is_called_its_files_are_in_a_folder_of_its_own(
    tmp_path: Path, table: str, shard: str
) -> None:
    journal = Journal(tmp_path / "journal")
    append(journal.file(table, shard), range(2)).close()
    append(journal.file("t", "a"), range(2)).close()
    [folder] = set(journal.folder.iterdir()) - {journal.folder / "t"}
    assert list(folder.iterdir()) == [journal.file(table, shard)]
    journal.clear(table)
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    assert list(journal.folder.iterdir()) == [journal.folder / "t"]


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", "/etc/x", "a/b", "a\0b", "x" * 300])
def test_no_name_of_a_table_or_shard_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "journal"
    journal = Journal(folder)
    for file in journal.file(name, "shardId-1"), journal.file("t", name):
        append(file, range(3)).close()
        assert file.resolve().parents[1] == folder
        assert list(entries(file, "", "")) == [answer(number) for number in range(3)]
    assert len({journal.file("t", one) for one in (name, "../../y", "x" * 301)}) == 3
    assert [one.name for one in tmp_path.iterdir()] == ["deep"]
    journal.clear(name)
    assert not journal.file(name, "shardId-1").exists()


def test_no_other_user_can_read_or_lock_it(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir(0o755)
    file = Journal(folder).file("t", "shardId-1")
    append(file, range(3)).close()
    modes = [path.stat().st_mode & 0o777 for path in (folder, file.parent, file)]
    assert modes == [0o700, 0o700, 0o600]
