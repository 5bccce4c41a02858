"""What the bulk door promises over every kind of link, by the driver's inside and without it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trustme
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, PyMongoError

from shake.demo.mongo import MongoServer, mongo_server
from shake.demo.servers import HOST
from shake.targets.mongodb.bulk import RawCommands
from shake.targets.mongodb.session import Session
from tests.support.documents import items, slot

Open = Callable[..., Collection[Any]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server that asks for TLS and for a user's password."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    with mongo_server(folder=folder) as server:
        with MongoClient[Any](server.uri) as client:
            client.admin.command("createUser", "me", pwd="secret-pass", roles=["root"])
        server.auth, server.certificate = True, folder / "server.pem"
        server.query = f"tls=true&tlsCAFile={folder}/ca.pem"
        server.restart()
        yield server


@pytest.fixture
def open_collection(name: str) -> Iterator[Open]:
    clients: list[MongoClient[Any]] = []

    def open_(uri: str, client: type[MongoClient[Any]] = MongoClient, **options: Any) -> Any:
        clients.append(client(uri, **options))
        return clients[-1][name].c

    yield open_
    for client in clients:
        client.drop_database(name)
        client.close()


class OtherInside(MongoClient[Any]):
    """A driver that does not have what the direct way uses."""

    def _conn_for_writes(self, session: Any, operation: str) -> Any:
        if operation == "dropDatabase":  # the clean-up of a test: older drivers need it there
            parent: Any = super()
            return parent._conn_for_writes(session, operation)
        raise AttributeError("no _conn_for_writes")


def plain(mongo: Any, open_: Open, _: Any) -> Collection[Any]:
    return open_(mongo.uri)


def other_inside(mongo: Any, open_: Open, _: Any) -> Collection[Any]:
    return open_(mongo.uri, OtherInside)


def compressed(mongo: Any, open_: Open, _: Any) -> Collection[Any]:
    return open_(mongo.uri, compressors="zlib")


def time_limited(mongo: Any, open_: Open, _: Any) -> Collection[Any]:
    return open_(mongo.uri, timeoutMS=20_000)


def with_concern(mongo: Any, open_: Open, _: Any) -> Collection[Any]:
    return open_(mongo.uri, w="majority", journal=True)


def tls_and_password(_: Any, open_: Open, guarded: MongoServer) -> Collection[Any]:
    return open_(guarded.uri.replace("//", "//me:secret-pass@"), authSource="admin")


LINKS = [plain, other_inside, compressed, time_limited, with_concern, tls_and_password]


@pytest.fixture(params=LINKS, ids=lambda link: link.__name__)
def collection(
    request: pytest.FixtureRequest, mongo: Any, open_collection: Open, guarded: MongoServer
) -> Any:
    return request.param(mongo, open_collection, guarded)


def test_documents_arrive_byte_for_byte(collection: Collection[Any]) -> None:
    documents = items(500, x={"y": [1, "z" * 1000, None]})
    assert RawCommands(collection).run("insert", slot(documents), 500)["n"] == 500
    assert list(collection.find().sort("_id")) == documents


def test_statements_are_carried_out(collection: Collection[Any]) -> None:
    bulk = RawCommands(collection)
    bulk.run("insert", slot(items(10)), 10)
    updates = [{"q": {"pk": f"k{i:06}"}, "u": {"pk": f"k{i:06}", "new": i}} for i in range(5)]
    assert bulk.run("update", slot(updates), 5)["n"] == 5
    deletes = [{"q": {"pk": f"k{i:06}"}, "limit": 1} for i in range(5, 12)]
    assert bulk.run("delete", slot(deletes), 7)["n"] == 5
    assert [document.get("new") for document in collection.find().sort("pk")] == [0, 1, 2, 3, 4]


def test_write_errors_are_told_by_index_and_the_rest_is_stored(collection: Collection[Any]) -> None:
    bulk = RawCommands(collection)
    bulk.run("insert", slot(items(3)), 3)
    with pytest.raises(BulkWriteError) as error:
        bulk.run("insert", slot(items(6)), 6)
    errors = error.value.details["writeErrors"]
    assert [(entry["index"], entry["code"]) for entry in errors] == [(i, 11000) for i in range(3)]
    assert collection.count_documents({}) == 6


def without_retries(mongo: Any, open_: Open, _: Any) -> Collection[Any]:
    return open_(mongo.uri, retryWrites=False)


UNNUMBERED = [other_inside, time_limited, without_retries]


@pytest.mark.parametrize("link", [*LINKS, without_retries], ids=lambda link: link.__name__)
def test_commands_of_a_session_are_numbered_where_they_can_be(
    link: Any, mongo: Any, open_collection: Open, guarded: MongoServer
) -> None:
    """What has the number of a command before it is answered as that was, and not carried out."""
    collection = link(mongo, open_collection, guarded)
    bulk = RawCommands(collection)
    session = Session.of("task", collection.full_name, "", "shard", itertools.repeat(7))
    documents = slot(items(3))
    bulk.run("insert", documents, 3, session)
    collection.delete_many({})
    assert bulk.run("insert", documents, 3, session)["n"] == 3
    assert collection.count_documents({}) == (3 if link in UNNUMBERED else 0)


def test_several_threads_may_write_at_once(collection: Collection[Any]) -> None:
    bulk = RawCommands(collection)
    documents = items(400)
    with ThreadPoolExecutor(4) as threads:
        parts = [slot(documents[at : at + 50]) for at in range(0, 400, 50)]
        list(threads.map(lambda part: bulk.run("insert", part, 50), parts))
    assert list(collection.find().sort("_id")) == documents


def test_another_inside_is_said_once(
    mongo: Any, open_collection: Open, caplog: pytest.LogCaptureFixture
) -> None:
    bulk = RawCommands(open_collection(mongo.uri, OtherInside))
    with caplog.at_level(logging.INFO, "shake.targets"):
        bulk.run("insert", slot(items(1)), 1)
        bulk.run("delete", slot([{"q": {}, "limit": 0}]), 1)
    assert [record.message for record in caplog.records] == [
        "NO FENCE: with this version of pymongo changes have no numbers, and documents go through "
        "its public interface, which is slower; install version 4.10: no _conn_for_writes"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_this_driver_is_as_expected(
    mongo: Any, open_collection: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """So that a new pymongo whose inside has changed is noticed here, not by its slowness."""
    with caplog.at_level(logging.INFO, "shake.targets"):
        RawCommands(open_collection(mongo.uri)).run("insert", slot(items(1)), 1)
    assert not caplog.records


@pytest.mark.parametrize("link", [plain, other_inside])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"closeConnection": True}, AutoReconnect),
        ({"errorCode": 10107}, AutoReconnect),
        ({"errorCode": 13}, OperationFailure),
        ({"writeConcernError": {"code": 91, "errmsg": "shutting down"}}, BulkWriteError),
    ],
)
def test_failures_are_those_of_the_driver(
    mongo: Any, open_collection: Open, link: Any, data: dict[str, Any], kind: type[PyMongoError]
) -> None:
    uri = mongo.uri + ("&" if "?" in mongo.uri else "?") + "heartbeatFrequencyMS=500"
    bulk = RawCommands(open_collection(uri, OtherInside if link is other_inside else MongoClient))
    bulk.run("insert", slot(items(1)), 1)
    fail = {"failCommands": ["update"], **data}
    mongo.client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fail)
    update = slot([{"q": {"pk": "k000000"}, "u": {"pk": "k000000", "x": 1}}])
    try:
        with pytest.raises(kind):
            bulk.run("update", update, 1)
    finally:
        mongo.client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert bulk.run("update", update, 1)["n"] == 1  # another connection, or another election
