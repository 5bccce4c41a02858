"""Dashboard and alerts are about metrics that a run really has, and Prometheus understands them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shake import __version__
from shake.demo.servers import free_port
from shake.status.metrics import metrics
from tests.support.followed import Followed, stopped
from tests.support.migration import ROOT
from tests.support.snapshots import task
from tests.support.wait import until

pytestmark = pytest.mark.slow

DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
TOKEN = "geheim123"

ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
#: Grafana replaces its variables before it asks.
VALUES = {"$instance": ".*", "$table": ".*", "$task": ".*", "$__rate_interval": "1m"}

without_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="no Prometheus here: dashboard and alerts are only compared with the metrics",
)


def panel_queries() -> list[str]:
    found = []
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VALUES.items():
                query = query.replace(variable, value)
            found.append(query)
    return found


def queries() -> list[str]:
    return [*panel_queries(), *(rule["expr"] for rule in ALERTS)]


def variables() -> list[str]:
    return [one["definition"] for one in DASHBOARD["templating"]["list"] if "definition" in one]


#: Without a value: what a table that is copied has no more, and a budget that is not set.
WITHOUT_VALUE = {
    "shake_remaining_seconds",
    "shake_index_build_ratio",
    "shake_read_budget_units",
    "shake_node_up",
    "shake_node_workers",
    "shake_node_cpus",
    "shake_node_resident_memory_bytes",
}


def fetch(url: str, token: str = "") -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        text: str = answer.read().decode()
    return text


def samples(text: str) -> dict[str, str]:
    """The last value of each series, by name without labels; those of no series are missing."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {re.split(r"[{ ]", line)[0]: line.rsplit(" ", 1)[1] for line in lines}


def named(text: str) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(r"\bshake_\w+", text))


def test_info_names_version_and_task() -> None:
    text = metrics(task()).decode()
    labels = f'sync_mode="full",task="moving",version="{__version__}"'
    assert f"\nshake_info{{{labels}}} 1.0\n" in text


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_each_alert_says_what_happened_and_what_to_do() -> None:
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert "{{ $labels." in rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")


@without_prometheus
@pytest.mark.parametrize(
    "command",
    [("check", "rules", "deploy/prometheus-rules.yaml"), ("test", "rules", "tests/alerts.yaml")],
    ids=lambda command: command[0],
)
def test_promtool_accepts_the_alerts_and_they_fire_when_they_should(
    command: tuple[str, ...],
) -> None:
    answer = subprocess.run(
        ["promtool", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer


@pytest.fixture
def port(followed: Followed) -> Iterator[int]:
    """The port of the status page of a task that has copied its table and follows it."""
    port = free_port()
    followed.simulator.table(followed.name)
    for key in range(50):
        followed.put(str(key))
    migration = followed.task(http_profile=port, http__token=TOKEN)
    run = migration.start()

    def consistent() -> bool:
        try:
            figures = samples(fetch(f"http://127.0.0.1:{port}/metrics", TOKEN))
        except OSError:
            return False
        return float(figures.get("shake_consistent", 0)) == 1

    until(consistent, 60)
    yield port
    stopped(migration, run)


def test_every_metric_of_dashboard_and_alerts_is_in_the_answer_of_a_run(port: int) -> None:
    used = set().union(*map(named, [*queries(), *variables()]))

    def answer() -> str:
        text = fetch(f"http://127.0.0.1:{port}/metrics", TOKEN)
        return text if used - samples(text).keys() <= WITHOUT_VALUE else ""

    text = until(answer)  # some are measured a moment after the start
    assert len(used) > 20
    known = set(re.findall(r"(?m)^# TYPE (shake_\w+)", text))
    assert used - known == set()
    # Of these, the age of a run, a graph has no use.
    assert known - used <= {"shake_start_time_seconds", "shake_run_seconds"}


@without_prometheus
def test_prometheus_reads_a_run_and_answers_every_query(port: int, tmp_path: Path) -> None:
    with Prometheus(tmp_path, port) as prometheus:
        [info] = until(lambda: prometheus.ask("shake_info"), 60)
        assert info["metric"]["version"] == __version__
        assert info["metric"]["job"] == "shake"
        until(lambda: prometheus.ask("rate(shake_items_total[1m])"), 60)
        answered = {query: prometheus.ask(query) for query in queries()}
        unanswered = [query for query in panel_queries() if not answered[query]]
        assert [query for query in unanswered if not named(query) & WITHOUT_VALUE] == []
        rules = json.loads(fetch(f"{prometheus.url}/api/v1/rules"))["data"]["groups"][0]["rules"]
        assert {rule["name"] for rule in rules} == {rule["alert"] for rule in ALERTS}


class Prometheus:
    """A real Prometheus with the configuration of ``deploy/``; it looks every second."""

    def __init__(self, folder: Path, port: int) -> None:
        conf = (DEPLOY / "prometheus.yaml").read_text(encoding="utf-8")
        conf = conf.replace("127.0.0.1:9340", f"127.0.0.1:{port}").replace("15s", "1s")
        (folder / "prometheus.yaml").write_text(conf)
        (folder / "shake-token").write_text(TOKEN)
        shutil.copy(DEPLOY / "prometheus-rules.yaml", folder)
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Prometheus:
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder}/prometheus.yaml",
                    f"--storage.tsdb.path={self._folder}/data",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, query: str) -> list[Any]:
        """The series that a query gives; none until Prometheus is up."""
        parameters = urllib.parse.urlencode({"query": query})
        try:
            answer = json.loads(fetch(f"{self.url}/api/v1/query?{parameters}"))
        except urllib.error.HTTPError as error:
            if error.code == 503:  # not up yet
                return []
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        except OSError:
            return []
        found: list[Any] = answer["data"]["result"]
        return found
