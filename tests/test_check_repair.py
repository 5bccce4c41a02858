"""A check believes consistent reads, and deletes nothing that is, or comes back, at the source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shake.cli import check
from tests.support.copied import Copied, make_table
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

MODES = pytest.mark.parametrize("mode", ["objectid", "key"])
DELETING = ("--repair", "--yes", "--delete-extra")


def item(key: str, number: int) -> dict[str, Any]:
    return {"pk": {"S": key}, "n": {"N": str(number)}}


def run(copied: Copied, *arguments: str) -> int:
    return check.main([*copied.arguments, *arguments])


def through(copied: Copied, answer: Callable[[Request], Reply], *arguments: str) -> int:
    """Run with a source whose answers are given."""
    with Faulty(otherwise=answer) as source:
        return run(copied, "--set", f"source.endpoint_url={source.url}", *arguments)


def stored(copied: Copied) -> dict[str, int]:
    name = "_id" if copied.settings.get("id.mode") == "key" else "pk"
    return {one[name]: one["n"] for one in copied.collection.find()}


@MODES
def test_what_only_a_consistent_scan_shows_is_compared(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any, mode: str
) -> None:
    """The source holds {a: 2, b: 1}; an eventually consistent scan shows, as the target, {a: 1}."""
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1)], id__mode=mode)
    copied.copy()
    forwarded = forward(dynamodb.url)
    before: list[Reply] = []

    def answer(request: Request) -> Reply:
        if request.operation != "Scan" or json.loads(request.body).get("ConsistentRead"):
            return forwarded(request)
        return before[0] if before else forwarded(request)

    def remember(request: Request) -> Reply:
        reply = forwarded(request)
        if request.operation == "Scan" and b"TotalSegments" in request.body:
            before.append(reply)
        return reply

    assert through(copied, remember, "--eventual") == 0
    assert "consistent reads" not in capsys.readouterr().out
    copied.put(item("a", 2), item("b", 1))
    path = tmp_path / "report"
    assert through(copied, answer, "--report", str(path)) == 1
    _, *found, _ = map(json.loads, path.read_text().splitlines())
    assert sorted((one["kind"], one["key"]["pk"]["S"]) for one in found) == [
        ("different", "a"),
        ("missing", "b"),
    ]
    assert "(consistent reads; --eventual halves that)" in capsys.readouterr().out


def test_extra_documents_stay_unless_their_deletion_is_asked_for(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)])
    copied.copy()
    copied.delete(pk={"S": "b"})
    assert run(copied, "--repair", "--yes") == 1
    assert stored(copied) == {"a": 1, "b": 1}
    assert "1 extra document left: --delete-extra deletes them" in capsys.readouterr().out
    assert run(copied, "--delete-extra") == 2
    assert "--delete-extra goes with --repair" in capsys.readouterr().err
    assert run(copied, *DELETING) == 0
    assert stored(copied) == {"a": 1}


@MODES
@pytest.mark.parametrize("follower", ["stores it", "has stored it anew", "does not run"])
@pytest.mark.parametrize("number", [1, 2], ids=["same", "other"])
def test_a_key_that_comes_back_before_its_deletion_stays(
    dynamodb: Any,
    mongo: Any,
    name: str,
    tmp_path: Path,
    mode: str,
    follower: str,
    number: int,
) -> None:
    """The source gets the key back, with the same or another content, directly before the delete.

    The task that follows the changes has stored that by then, or stores it later.
    """
    copied = make_table(
        dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)], id__mode=mode
    )
    copied.copy()
    copied.delete(pk={"S": "b"})
    key = {"_id" if mode == "key" else "pk": "b"}

    def comes_back() -> None:
        copied.put(item("b", number))
        if follower == "stores it":
            copied.collection.update_one(key, {"$set": {"n": number}})
        elif follower == "has stored it anew":
            copied.collection.delete_one(key)
            copied.collection.insert_one({**key, "pk": "b", "n": number})

    with Wire(*mongo.client.address) as wire:
        reached = wire.stop_at("request", "delete", f"{name}.{name}", comes_back)
        run(copied, "--set", f"target.address={wire.uri}", *DELETING)
    assert reached.is_set()
    if follower == "does not run" and number == 2 and stored(copied)["b"] == 1:
        assert run(copied, *DELETING) == 0  # it stayed as it was, and that is the task's to change
    assert stored(copied) == {"a": 1, "b": number}
    assert run(copied) == 0


def test_a_key_that_comes_back_between_the_looks_is_no_difference(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)])
    copied.copy()
    copied.delete(pk={"S": "b"})
    forwarded, asked = forward(dynamodb.url), 0

    def answer(request: Request) -> Reply:
        nonlocal asked
        asked += request.operation == "BatchGetItem"
        if request.operation == "BatchGetItem" and asked == 4:  # the last one before the delete
            copied.put(item("b", 1))
        return forwarded(request)

    assert through(copied, answer, *DELETING) == 0
    assert stored(copied) == {"a": 1, "b": 1}


def test_a_document_that_the_check_deleted_gives_way_to_a_newer_one(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    """What the check stores again never replaces what a follower has stored meanwhile."""
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)])
    copied.copy()
    copied.delete(pk={"S": "b"})

    def newer() -> None:
        copied.put(item("b", 3))
        copied.collection.insert_one({"pk": "b", "n": 3})

    with Wire(*mongo.client.address) as wire:
        place = f"{name}.{name}"
        wire.stop_at("request", "delete", place, lambda: copied.put(item("b", 2)))
        stored_again = wire.stop_at("request", "insert", place, newer)
        run(copied, "--set", f"target.address={wire.uri}", *DELETING)
    assert stored_again.is_set()
    assert stored(copied) == {"a": 1, "b": 3}


# ---- while a task follows the changes


@MODES
def test_a_newer_change_is_not_overwritten_by_a_repair(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str
) -> None:
    """A follower stores it when the repair has compared, and before the repair writes."""
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1)], id__mode=mode)
    copied.copy()
    copied.put(item("a", 2))
    key = {"_id" if mode == "key" else "pk": "a"}

    def newer() -> None:
        copied.put(item("a", 3))
        copied.collection.update_one(key, {"$set": {"n": 3}})

    with Wire(*mongo.client.address) as wire:
        reached = wire.stop_at("request", "update", f"{name}.{name}", newer)
        run(copied, "--set", f"target.address={wire.uri}", "--repair", "--yes")
    assert reached.is_set()
    assert stored(copied) == {"a": 3}
    assert run(copied) == 0


@MODES
def test_a_document_that_a_follower_deletes_meanwhile_is_not_stored_by_a_repair(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1)], id__mode=mode)
    copied.copy()
    copied.put(item("a", 2))

    def deleted() -> None:
        copied.delete(pk={"S": "a"})
        copied.collection.delete_many({})

    with Wire(*mongo.client.address) as wire:
        reached = wire.stop_at("request", "update", f"{name}.{name}", deleted)
        run(copied, "--set", f"target.address={wire.uri}", "--repair", "--yes")
    assert reached.is_set()
    assert stored(copied) == {}
    assert run(copied) == 0


@MODES
@pytest.mark.parametrize("extent", [(), ("--sample", "10")], ids=["all", "sample"])
def test_an_item_that_is_deleted_while_it_is_repaired_is_not_called_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str, extent: tuple[str, ...]
) -> None:
    """What the repair has stored is deleted again: then both sides agree."""
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1)], id__mode=mode)
    copied.copy()
    copied.put(item("b", 1))
    path = tmp_path / "report"
    with Wire(*mongo.client.address) as wire:
        place = f"{name}.{name}"
        reached = wire.stop_at("request", "insert", place, lambda: copied.delete(pk={"S": "b"}))
        target = ("--set", f"target.address={wire.uri}")
        assert run(copied, *target, "--repair", "--yes", "--report", str(path), *extent) == 0
    assert reached.is_set()
    assert '"kind"' not in path.read_text()
    assert stored(copied) == {"a": 1}


@MODES
def test_a_key_that_comes_back_and_is_gone_again_does_not_stay(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str
) -> None:
    """The answer that shows the key after its deletion is old when it arrives."""
    copied = make_table(
        dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)], id__mode=mode
    )
    copied.copy()
    copied.delete(pk={"S": "b"})
    forwarded = forward(dynamodb.url)
    old: list[Reply] = []

    def answer(request: Request) -> Reply:
        reply = forwarded(request)
        if request.operation == "BatchGetItem" and b'"n"' in reply.body and not old:
            copied.delete(pk={"S": "b"})
            old.append(reply)
        return reply

    with Wire(*mongo.client.address) as wire:
        target = f"target.address={wire.uri}"
        wire.stop_at("request", "delete", f"{name}.{name}", lambda: copied.put(item("b", 2)))
        assert through(copied, answer, "--set", target, *DELETING) == 0
    assert old
    assert stored(copied) == {"a": 1}
    assert run(copied) == 0


@MODES
@pytest.mark.parametrize("there", [False, True], ids=["missing", "different"])
def test_an_item_that_the_source_deletes_during_its_repair_is_not_called_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any, mode: str, there: bool
) -> None:
    """Where the target had none of it, nothing of it stays; else what stays is a difference."""
    copied = make_table(
        dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)], id__mode=mode
    )
    copied.copy()
    if there:
        copied.put(item("b", 2))
    else:
        copied.collection.delete_one({"pk": "b"})
    command = "update" if there else "insert"
    with Wire(*mongo.client.address) as wire:
        reached = wire.stop_at(
            "answer", command, f"{name}.{name}", lambda: copied.delete(pk={"S": "b"})
        )
        status = run(copied, "--set", f"target.address={wire.uri}", "--repair", "--yes")
    assert reached.is_set()
    assert status == there
    assert "repaired and looked at again" not in capsys.readouterr().out
    assert stored(copied) == ({"a": 1, "b": 2} if there else {"a": 1})


def test_a_document_that_changes_before_its_replacement_keeps_the_change(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)])
    copied.copy()
    copied.collection.update_one({"pk": "b"}, {"$set": {"n": 2}})

    def newer() -> None:
        copied.put(item("b", 3))
        copied.collection.update_one({"pk": "b"}, {"$set": {"n": 3}})

    with Wire(*mongo.client.address) as wire:
        reached = wire.stop_at("request", "update", f"{name}.{name}", newer)
        run(copied, "--set", f"target.address={wire.uri}", "--repair", "--yes")
    assert reached.is_set()
    assert stored(copied) == {"a": 1, "b": 3}


@MODES
def test_attributes_that_look_like_operators_are_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str
) -> None:
    odd = {**item("b", 1), "$schema": {"S": "x"}, "a.b": {"S": "y"}}
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1), odd], id__mode=mode)
    copied.copy()
    copied.put({**odd, "$schema": {"S": "z"}})
    assert run(copied, "--repair", "--yes") == 0
    assert run(copied) == 0
