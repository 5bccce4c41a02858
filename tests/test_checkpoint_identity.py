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
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path, "task-checkpoint", sync=lambda handle: None)


@pytest.fixture
def checkpoints(store: FileStore) -> Checkpoints:
    return Checkpoints(store, run=4)


ORIGINS = st.builds(Origin, st.text(), st.text(), st.floats(allow_nan=False))


@given(st.builds(Identity, ORIGINS, st.text(), st.text(), st.tuples(st.text())))
def test_an_identity_survives_bson(identity: Identity) -> None:
    assert Identity.of("orders", bson.decode(bson.encode(identity.document()))) == identity


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
    store: FileStore, checkpoints: Checkpoints
) -> None:
    assert checkpoints.load_identity("orders") is None
    earlier = Checkpoints(store, run=3)
    ours, late = replace(FIRST, collection_uuid="0" * 32), replace(FIRST, collection_uuid="1" * 32)
    earlier.save_identity("orders", None, FIRST)
    earlier.save_identity("orders", FIRST, late)
    checkpoints.save_identity("orders", FIRST, ours)
    for before in (None, FIRST):
        with pytest.raises(Superseded):
            earlier.save_identity("orders", before, late)
    assert checkpoints.load_identity("orders") == ours
