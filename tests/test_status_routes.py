"""The status page, its API, and the diagnostics page, over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shake.control.commands import Reply
from shake.errors import RefusedError
from shake.process.diagnosis import diagnose
from shake.status import http_server
from shake.status.http_server import HttpResponse, Route, Server
from shake.status.monitor import Monitor
from shake.status.routes import profile_server, status_server
from shake.status.snapshot import ProcessStatus, ShardStatus, Snapshot
from tests.support.scenes import SCENES, monitored
from tests.support.snapshots import table, task

TOKEN = "open-sesame"
RUNNING = task(
    table("orders", items=250, bytes=5000, throttles=3, seconds_left=15.0, rate=50.0),
    table("<script>", "done", items=10, segments_done=4),
    table("later", "waiting"),
    processes=(ProcessStatus("worker 1", 77, slots=8, slots_used=3, restarts=1),),
)


@pytest.fixture
def server() -> Iterator[Server]:
    with status_server(lambda: RUNNING, "127.0.0.1", 0, None) as server:
        yield server


@pytest.fixture
def guarded() -> Iterator[Server]:
    with status_server(lambda: RUNNING, "127.0.0.1", 0, TOKEN) as server:
        yield server


def get(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()


def get_json(server: Server, path: str) -> Any:
    response, body = get(server, path)
    assert response.headers["Content-Type"] == "application/json"
    return json.loads(body)


def test_status_gives_the_whole_snapshot_and_its_total(server: Server) -> None:
    status = get_json(server, "/status")
    assert (status["id"], status["state"], status["started"]) == ("moving", "running", 1562000000.0)
    assert [t["name"] for t in status["tables"]] == ["orders", "<script>", "later"]
    assert [t["fraction"] for t in status["tables"]] == [0.25, 1.0, 0.0]
    assert status["tables"][0]["items"] == 250
    assert status["total"]["items"] == 260
    assert status["processes"][0]["slots_used"] == 3


def test_every_request_sees_the_state_of_its_moment() -> None:
    states = iter(["running", "degraded"])
    with status_server(lambda: task(state=next(states)), "127.0.0.1", 0, None) as server:
        assert [get_json(server, "/status")["state"] for _ in range(2)] == ["running", "degraded"]


def test_an_error_that_quotes_bad_text_is_still_shown() -> None:
    with status_server(lambda: task(reason="item \ud800"), "127.0.0.1", 0, None) as server:
        assert get_json(server, "/status")["reason"] == "item \ud800"


def test_progress_has_the_shape_that_nimoshake_users_watch(server: Server) -> None:
    assert get_json(server, "/progress") == {
        "progress": "33.33%",
        "total_collection_number": 3,
        "finished_collection_number": 1,
        "processing_collection_number": 1,
        "wait_collection_number": 1,
        "collection_metric": {
            "orders": "25.00% (250/1000)",
            "<script>": "100.00% (10/10)",
            "later": "-",
        },
    }


def test_progress_counts_a_table_whose_copy_is_complete_once() -> None:
    tables = (table("a", "following"), table("b", "done"), table("c"), table("d", "waiting"))
    with status_server(lambda: task(*tables), "127.0.0.1", 0, None) as server:
        progress = get_json(server, "/progress")
    states = ("finished", "processing", "wait")
    assert [progress[f"{state}_collection_number"] for state in states] == [2, 1, 1]


def test_metric_claims_no_stream_records(server: Server) -> None:
    metric = get_json(server, "/metric")
    assert (metric["records_get"], metric["records_write"], metric["error"]) == (0, 0, "")


def test_metric_has_the_shards_that_are_read_as_nimoshake_names_them() -> None:
    shards = (ShardStatus("shardId-2", "shardId-1", "300", 1_700_000_000.0),)
    snapshot = replace(
        task(table("orders", open_shards=shards), table("empty")), saves=7, saved_at=1_700_000_005.0
    )
    with status_server(lambda: snapshot, "127.0.0.1", 0, None) as server:
        metric = get_json(server, "/metric")
        shown = get_json(server, "/status")
    assert metric["checkpoint_times"] == 7
    assert metric["checkpoint_update_times"] == {
        "orders": {
            "shardId-2": {
                "update_time": "2023-11-14T22:13:25Z",
                "sync_approximate_time": "2023-11-14T22:13:20Z",
                "father_shard_id": "shardId-1",
                "SequenceNumber": "300",
            }
        },
        "empty": {},
    }
    assert shown["tables"][0]["open_shards"][0]["applied_through"] == "2023-11-14T22:13:20Z"


def test_metrics_are_prometheus_text_with_help(server: Server) -> None:
    response, body = get(server, "/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    families = {f.name: f for f in text_string_to_metric_families(body.decode())}
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["shake_items_total", "orders"] == 250
    assert values["shake_bytes_total", "orders"] == 5000
    assert values["shake_throttles_total", "orders"] == 3
    assert values["shake_remaining_seconds", "orders"] == 15
    assert ("shake_remaining_seconds", "later") not in values
    assert values["shake_state", "running"] == 1
    assert values["shake_state", "failed"] == 0
    assert values["shake_table_state", "<script>", "done"] == 1
    assert values["shake_arena_slots_used", "worker 1"] == 3
    assert all(family.documentation for family in families.values())


@pytest.mark.parametrize(
    ("state", "code"),
    [("running", 200), ("degraded", 200), ("stopping", 200), ("finished", 200), ("failed", 503)],
)
def test_healthz_fails_only_when_the_task_has_failed(state: str, code: int) -> None:
    with status_server(lambda: task(state=state), "127.0.0.1", 0, TOKEN) as server:
        response, body = get(server, "/healthz")
    assert (response.status, body) == (code, f"{state}\n".encode())


@pytest.mark.parametrize(
    "path", ["/", "/status", "/view", "/progress", "/metric", "/metrics", "/nowhere"]
)
def test_a_token_guards_every_page_but_healthz(guarded: Server, path: str) -> None:
    for header in (None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \xe9", "Bearer "):
        response, body = get(guarded, path, **({"Authorization": header} if header else {}))
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert b"orders" not in body
    response, _ = get(guarded, path, Authorization=f"bearer {TOKEN}")
    assert response.status == (404 if path == "/nowhere" else 200)


def test_the_page_that_asks_for_the_token_comes_without_one(guarded: Server) -> None:
    _, asking = get(guarded, "/")
    _, shown = get(guarded, "/", Authorization=f"Bearer {TOKEN}")
    assert asking == shown
    assert b'type="password"' in asking


def test_the_page_stands_alone_and_never_makes_html_of_data(server: Server) -> None:
    scripts = [(f"/{name}.js", "javascript") for name in ("page", "charts", "elements")]
    for path, type in (("/", "html"), ("/page.css", "css"), *scripts):
        response, body = get(server, path)
        part = body.decode()
        assert response.headers["Content-Type"] == f"text/{type}; charset=utf-8"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'; style-src 'self'; script-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", part)
        links = set(re.findall(r"(?:src|href)=[\"'](?!data:)([^\"']*)", part))
        assert links <= {"page.css", "page.js", "status", "metrics"}
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", part) == []


def test_what_the_page_is_made_of_needs_no_token_and_what_it_shows_does(guarded: Server) -> None:
    assert [get(guarded, path)[0].status for path in ("/page.css", "/page.js")] == [200, 200]
    for path in ("/view", "/charts"):
        assert get(guarded, path)[0].status == 401
        assert get(guarded, path, Authorization=f"Bearer {TOKEN}")[0].status == 200


def test_the_page_costs_the_loop_of_the_supervisor_nothing() -> None:
    def asked() -> Snapshot:
        raise AssertionError("the loop was asked for a snapshot")

    monitor = Monitor(lambda: RUNNING)
    with status_server(asked, "127.0.0.1", 0, None, monitor=monitor) as server:
        assert get_json(server, "/view")["id"] == "moving"
        assert get_json(server, "/charts")["charts"] == []
        assert get(server, "/")[0].status == 200


def test_a_viewer_of_300_tables_costs_less_than_a_hundredth_of_two_cpus() -> None:
    """The page asks each two seconds."""
    monitor = monitored(SCENES["many"])
    with status_server(SCENES["many"], "127.0.0.1", 0, None, monitor=monitor) as server:
        get_json(server, "/view")
        before = time.process_time()
        for _ in range(10):
            assert len(get(server, "/view")[1]) < 200_000
        assert (time.process_time() - before) / 10 < 0.01 * 2 * 2


def test_the_charts_are_drawn_from_the_history() -> None:
    with status_server(asked := (lambda: RUNNING), "127.0.0.1", 0, None) as server:
        assert get_json(server, "/charts")["charts"] == []
    monitor = monitored(SCENES["copy"])
    with status_server(asked, "127.0.0.1", 0, None, monitor=monitor) as server:
        drawn = get_json(server, "/charts")
    titles = [chart["title"] for chart in drawn["charts"]]
    assert titles == ["Written", "Read units", "Throttled requests", "Writes"]
    for chart in drawn["charts"]:
        assert len(chart["line"]) == len(chart["texts"]) == len(drawn["times"])
        assert all(0.0 <= value <= 1.0 for value in chart["line"])


def test_the_page_offers_to_steer_only_where_that_is_served() -> None:
    for token, control in ((None, False), (TOKEN, True)):
        made = status_server(
            lambda: RUNNING, "127.0.0.1", 0, token, steer=lambda command: Reply(True, "")
        )
        with made as server:
            _, body = get(server, "/view", Authorization=f"Bearer {token}")
            assert json.loads(body)["control"] is control


def test_what_processes_use_is_in_status_and_metrics() -> None:
    used = replace(RUNNING.processes[0], pid=os.getpid())
    monitor = Monitor(lambda: replace(RUNNING, processes=(used,)))
    monitor.measure()
    with status_server(
        lambda: replace(RUNNING, processes=(used,)), "127.0.0.1", 0, None, monitor=monitor
    ) as server:
        [process] = get_json(server, "/status")["processes"]
        _, body = get(server, "/metrics")
    assert process["memory"] > 1_000_000
    assert process["cpu_seconds"] > 0
    assert b'shake_process_resident_memory_bytes{role="worker 1"} ' in body
    assert b'shake_process_cpu_seconds_total{role="worker 1"} ' in body


def test_an_index_build_is_in_status_and_metrics() -> None:
    building = table("orders", "indexing", index_step="scanning collection", index_progress=0.5)
    with status_server(lambda: task(building, table("b")), "127.0.0.1", 0, None) as server:
        first, second = get_json(server, "/status")["tables"]
        _, body = get(server, "/metrics")
    assert (first["index_step"], first["index_progress"]) == ("scanning collection", 0.5)
    assert second["index_progress"] is None
    assert re.findall(rb"shake_index_build_ratio\{.*", body) == [
        b'shake_index_build_ratio{table="orders"} 0.5'
    ]


def test_only_get_and_head_are_served(server: Server) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response, _ = get(server, "/status", method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    response, body = get(server, "/status", "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 100


@pytest.mark.parametrize("path", ["/page.html", "/server.py", "/../setup.cfg", "/status/page.html"])
def test_nothing_is_served_from_disk(server: Server, path: str) -> None:
    assert get(server, path)[0].status == 404


def test_another_sites_name_for_this_address_is_refused(server: Server, guarded: Server) -> None:
    assert get(server, "/status", Host="evil.example:9340")[0].status == 403
    for host in ("localhost:9340", "127.0.0.1", "[::1]:9340"):
        assert get(server, "/status", Host=host)[0].status == 200
    ours = get(guarded, "/status", Host="vm.example", Authorization=f"Bearer {TOKEN}")
    assert ours[0].status == 200


@pytest.mark.parametrize("path", ["/status", "/progress", "/metric", "/metrics", "/ready"])
def test_a_slash_at_the_end_of_a_path_makes_no_difference(guarded: Server, path: str) -> None:
    assert get(guarded, f"{path}/")[0].status == 401
    token = f"Bearer {TOKEN}"
    plain, slash = (get(guarded, one, Authorization=token) for one in (path, f"{path}/"))
    assert slash[0].status == plain[0].status != 404
    assert slash[0].headers["Content-Type"] == plain[0].headers["Content-Type"]
    assert get(guarded, "/healthz/")[0].status == 200


def test_one_connection_serves_many_requests(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        for path in ("/status", "/metrics", "/nowhere", "/healthz"):
            connection.request("GET", path)
            assert connection.getresponse().read()


def test_a_body_is_never_taken_for_the_next_request(server: Server) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    length = f"Content-Length: {len(hidden)}"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = f"GET /status HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"
        connection.sendall(head.encode() + hidden)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 ") == 1


def test_a_silent_client_holds_nobody_up(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/healthz")[0].status == 200


def test_clients_that_read_nothing_hold_nobody_up() -> None:
    large = task(*(table(f"t{number}") for number in range(2000)))
    with (
        status_server(lambda: large, "127.0.0.1", 0, None) as server,
        contextlib.ExitStack() as stack,
    ):
        request = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(10):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            stack.enter_context(client).sendall(request)
        assert len(get_json(server, "/status")["tables"]) == 2000
        assert get(server, "/healthz")[0].status == 200


def test_clients_that_never_end_their_requests_keep_nobody_out(server: Server) -> None:
    """There are more of them than the page has connections, and they send on and come again."""
    over = threading.Event()

    def drip() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), connected(server) as client:
                client.sendall(b"GET /status HTTP/1.1\r\n")
                while not over.wait(0.2):
                    client.sendall(b"a: b\r\n")

    threads = [threading.Thread(target=drip) for _ in range(100)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(5):
            assert get(server, "/healthz")[0].status == 200
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_clients_that_ask_for_much_and_read_nothing_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(http_server._LIMITS, "channel_timeout", 1)
    large = HttpResponse(b"x" * 5_000_000)
    routes = {"/": Route(lambda _: large), "/healthz": Route(lambda _: HttpResponse(b"running\n"))}
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        Server("http_profile", "127.0.0.1", 0, None, routes) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(8):  # two for each of the page's threads
            stack.enter_context(connected(server)).sendall(request * 100)
        began = time.monotonic()
        while time.monotonic() < began + 5:  # the answers fill what a client may leave unread
            assert get(server, "/healthz")[0].status == 200


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


@pytest.mark.parametrize(
    "request_", [b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"a: b\r\n" * 5000, b"x" * 20_000]
)
def test_a_request_that_is_too_large_is_refused(server: Server, request_: bytes) -> None:
    assert get(server, "/healthz", Cookie="x" * 20_000)[0].status == 431
    with connected(server) as client:
        client.sendall(request_)
        assert b" 4" in client.recv(20)


def test_a_page_that_cannot_be_made_is_an_error_not_the_end() -> None:
    broken = iter([True, False])

    def snapshot() -> Snapshot:
        if next(broken):
            raise RuntimeError("no snapshot yet")
        return RUNNING

    with status_server(snapshot, "127.0.0.1", 0, None) as server:
        response, body = get(server, "/status")
        assert response.status == 500
        assert b"no snapshot" not in body
        assert get(server, "/status")[0].status == 200


def test_a_port_in_use_is_refused_with_a_way_out(server: Server) -> None:
    with pytest.raises(RefusedError, match=r"http_profile: cannot listen on 127\.0\.0\.1 port \d+"):
        status_server(lambda: RUNNING, "127.0.0.1", server.port, None)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"system_profile: cannot listen on 192\.0\.2\.1"):
        profile_server(list, "192.0.2.1", 0, None)


def test_the_port_is_free_again_at_the_end() -> None:
    with status_server(lambda: RUNNING, "127.0.0.1", 0, None) as server:
        assert get(server, "/healthz")[0].status == 200
    with status_server(lambda: RUNNING, "127.0.0.1", server.port, None) as again:
        assert get(again, "/healthz")[0].status == 200


def test_diagnostics_show_every_thread_of_every_process() -> None:
    held, done = threading.Event(), threading.Event()

    def waits_for_the_end() -> None:
        held.set()
        done.wait()

    thread = threading.Thread(target=waits_for_the_end, name="scanner 3")
    thread.start()
    held.wait()
    try:
        reports = [diagnose("supervisor"), diagnose("worker 1", queue="3 of 8 slots")]
    finally:
        done.set()
        thread.join()
    with profile_server(lambda: reports, "127.0.0.1", 0, TOKEN) as server:
        assert get(server, "/")[0].status == 401
        response, body = get(server, "/", Authorization=f"Bearer {TOKEN}")
    page = body.decode()
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert page.count("waits_for_the_end") == 2
    assert page.count("thread scanner 3") == 2
    assert re.search(r"^worker 1 +\d+ +[\d.]+ [MG]B +\d+\.\d  3 of 8 slots$", page, re.MULTILINE)


# ---- dates, and whether one could switch

FOLLOWED = task(
    table(
        "orders",
        "following",
        consistent=True,
        lag=1.0,
        unread=1.0,
        applied_through=1_562_000_000.9,
        quiet_seconds=60.0,
    ),
    table("later", "following", consistent=True, lag=1.0, applied_through=1_562_000_007.0),
    time=1_562_000_100.0,
    source_time=1_562_000_001.5,
    margin=1.0,
)


def test_status_is_dated_by_this_clock_and_by_the_source_s() -> None:
    with status_server(lambda: FOLLOWED, "127.0.0.1", 0, None) as server:
        shown = get_json(server, "/status")
    assert (shown["time"], shown["source_time"]) == ("2019-07-01T16:55:00Z", "2019-07-01T16:53:21Z")
    through = [one["applied_through"] for one in shown["tables"]]
    assert through == ["2019-07-01T16:53:20Z", "2019-07-01T16:53:27Z"]
    assert shown["total"]["applied_through"] == "2019-07-01T16:53:20Z"


def test_what_is_not_known_yet_is_null_and_not_consistent(server: Server) -> None:
    shown = get_json(server, "/status")
    assert {one["applied_through"] for one in (*shown["tables"], shown["total"])} == {None}
    metrics = get(server, "/metrics")[1].decode()
    assert "shake_applied_through_timestamp_seconds{" not in metrics
    for name in ("orders", "<script>", "later"):
        assert f'shake_consistent{{table="{name}"}} 0.0' in metrics


def test_metrics_tell_the_time_that_is_applied_through() -> None:
    with status_server(lambda: FOLLOWED, "127.0.0.1", 0, None) as server:
        metrics = get(server, "/metrics")[1].decode()
    assert 'shake_applied_through_timestamp_seconds{table="orders"} 1.5620000009e+09' in metrics
    assert 'shake_consistent{table="orders"} 1.0' in metrics


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?after=2019-07-01T16:53:20Z", 200),
        ("?after=2019-07-01T16:53:20", 400),  # in which zone?
        ("?after=2019-07-01", 400),
        ("?after=", 400),  # as of a script whose variable is empty
        ("?after", 400),
        ("?aftre=2019-07-01T16:53:20Z", 400),
        ("?after=2019-07-01T16:53:21Z&after=2019-07-01T16:53:20Z", 400),  # which of the two?
        ("?after=2019-07-01T16:53:20Z&after=2019-07-01T16:53:20Z", 400),
        ("?after=2019-07-01T18:53:20%2B02:00", 200),
        ("?after=2019-07-01T18:53:20+02:00", 200),
        ("?after=2019-07-01T16:53:21Z", 503),
        ("?after=2019-07-01T16:53:20-01:00", 503),
        ("?after=soon", 400),
    ],
)
def test_ready_answers_whether_one_could_switch(query: str, status: int) -> None:
    with status_server(lambda: FOLLOWED, "127.0.0.1", 0, None) as server:
        response, body = get(server, f"/ready{query}")
    assert response.status == status
    if status != 400:
        said = json.loads(body)
        assert said.keys() == {"ready", "reason", "applied_through", "kept"}
        assert said["ready"] is (status == 200)
        assert said["applied_through"] == "2019-07-01T16:53:20Z"


def test_ready_says_what_is_missing_and_needs_the_token(server: Server, guarded: Server) -> None:
    response, body = get(server, "/ready")
    assert response.status == 503
    said = json.loads(body)
    assert (said["ready"], said["applied_through"]) == (False, None)
    assert said["reason"] == "table orders: it is not followed yet (copying)"
    assert get(guarded, "/ready")[0].status == 401
    assert get(guarded, "/ready", Authorization=f"Bearer {TOKEN}")[0].status == 503
