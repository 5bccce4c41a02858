"""A checkpoint names the table and the collection that it is of, and no late write changes that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.contract import Superseded
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.identity import Identity
from shake.schema import Origin

FIRST = Identity(Origin("arn:aws:dynamodb:eu-west-1:1:table/orders", "id-1", 1700000000.25))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(FileStore(tmp_path, "task-checkpoint", sync=lambda handle: None))


ORIGINS = st.builds(Origin, st.text(), st.text(), st.floats(allow_nan=False))


@given(st.builds(Identity, ORIGINS, st.text(), st.text(), st.tuples(st.text())))
def test_an_identity_survives_bson(identity: Identity) -> None:
    assert Identity.of("orders", bson.decode(bson.encode(identity.document()))) == identity


def test_an_identity_is_replaced_only_by_who_has_read_it(checkpoints: Checkpoints) -> None:
    assert checkpoints.load_identity("orders") is None
    checkpoints.save_identity("orders", None, FIRST)
    second = replace(FIRST, collection_uuid="0" * 32)
    checkpoints.save_identity("orders", FIRST, second)
    with pytest.raises(Superseded):  # the write of an earlier run lands late
        checkpoints.save_identity("orders", None, replace(FIRST, collection_uuid="1" * 32))
    assert checkpoints.load_identity("orders") == second


def test_users_are_added_to_what_an_older_version_saved(checkpoints: Checkpoints) -> None:
    """It is known whether there was ever another user, however often the user changes."""
    checkpoints.save_identity("orders", None, FIRST)
    assert FIRST.used_by("") == FIRST
    known = FIRST
    for user in "aabcba":
        before, known = known, known.used_by(user)
        checkpoints.save_identity("orders", before, known)
    assert known.users == ("a", "b")
    assert checkpoints.load_identity("orders") == known


def test_an_identity_that_was_stored_without_an_answer_is_no_error(
    checkpoints: Checkpoints,
) -> None:
    checkpoints.save_identity("orders", None, FIRST)
    checkpoints.save_identity("orders", None, FIRST)
    assert checkpoints.load_identity("orders") == FIRST


def test_what_an_earlier_run_saved_late_is_replaced_and_replaces_nothing(
    checkpoints: Checkpoints,
) -> None:
    ours, late = replace(FIRST, collection_uuid="0" * 32), replace(FIRST, collection_uuid="1" * 32)
    checkpoints.save_identity("orders", None, FIRST)
    checkpoints.save_identity("orders", FIRST, late, 3)
    checkpoints.save_identity("orders", FIRST, ours, 4)
    with pytest.raises(Superseded):
        checkpoints.save_identity("orders", FIRST, late, 3)
    assert checkpoints.load_identity("orders") == ours
