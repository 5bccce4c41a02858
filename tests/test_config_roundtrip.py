"""A configuration survives being written down: whole for our processes, masked for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from shake.config import Config, load
from shake.config.declared_keys import KEYS
from shake.config.key_type import mistake
from shake.config.kinds import BUDGET, EXPRESSION, FLAG, MAP, NAMES, PRICE, SECONDS, TEXT
from shake.config.windows import WINDOWS

words = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True)
texts = (
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
    .map(lambda text: text.strip(" \t"))
    .filter(lambda text: text and "***" not in text)
)
plain_texts = texts.filter(lambda text: not mistake(text))
budgets = st.floats(0, 100, exclude_min=True).map(repr) | st.integers(1, 100).map("{}%".format)
budgets |= st.sampled_from(["none", "auto", "None"])
maps = st.dictionaries(words, words, min_size=1).map(
    # The table's name again, so that no two go to one place.
    lambda d: ";".join(f"{table}: {database}.{table}" for table, database in d.items())
)
OF_KIND = {
    FLAG: st.sampled_from(["true", "False"]),
    TEXT: plain_texts,
    EXPRESSION: texts,
    NAMES: st.lists(words, min_size=1).map(" ; ".join),
    BUDGET: budgets,
    PRICE: st.floats(0, 1000).map(repr),
    SECONDS: st.floats(0, 3600).map(repr) | st.integers(0, 3600).map("{} s".format),
    MAP: maps,
    WINDOWS: st.lists(budgets, min_size=1, max_size=3).map(
        lambda found: ";".join(f"2{hour}:30 - 2{hour + 1}:00={b}" for hour, b in enumerate(found))
    ),
}
# Where keys restrict each other, values that go together.
OF_KEY = {
    "id": words.map("t{}".format),
    "http.bind": st.just("127.0.0.2"),
    "http.token": words,
    "http_profile": st.sampled_from(["-1", "0", "9340"]),
    "system_profile": st.sampled_from(["-1", "0", "9330"]),
    "target.type": st.just("mongodb"),
    "target.address": words.map("mongodb://user:pw-{}@host/?appName=x".format),
    "checkpoint.type": st.just("mongodb"),
    "checkpoint.address": st.just("mongodb+srv://host/?tls=true"),
    "checkpoint.db": words.map("checkpoints-{}".format),  # longer than where a map leads
    "convert._id": words,
    "source.endpoint_url": st.just("http://localhost:8000"),
    "source.streams_endpoint_url": st.just("http://localhost:8001"),
    "webhook.url": words.map("https://hooks.example/{}".format),
    "full.read.filter_expression": st.just("a = :x"),
    "full.read.filter_attributevalues": texts.map("x```S```{}".format),
}
TOGETHER = (
    ("source.access_key_id", "source.secret_access_key", "source.session_token"),
    ("nodes.tls.cert", "nodes.tls.key"),
)
NOT_WITH_OTHERS = ("filter.collection.black", "source.profile", "source.external_id")
NEEDED = ("id", "target.address", "full.read.filter_expression", "full.read.filter_attributevalues")


def values_of(name: str) -> st.SearchStrategy[str]:
    kind = next(k.kind for k in KEYS if k.name == name)
    if name in OF_KEY:
        return OF_KEY[name]
    if kind.allowed.startswith("one of: "):
        return st.sampled_from(kind.allowed.removeprefix("one of: ").split(", "))
    return OF_KIND.get(kind, st.integers(1, 1000).map(str))


@st.composite
def texts_by_key(draw: st.DrawFn) -> dict[str, str]:
    names = [k.name for k in KEYS if k.name not in (*NEEDED, *sum(TOGETHER, ()), *NOT_WITH_OTHERS)]
    chosen: list[Any] = draw(st.lists(st.sampled_from(names), unique=True))
    keys = [draw(st.sampled_from([(), group])) for group in TOGETHER]
    return {name: draw(values_of(name)) for name in (*NEEDED, *chosen, *sum(keys, ()))}


@given_any(texts_by_key())
def test_settings_give_the_same_configuration_again(given: dict[str, str]) -> None:
    config = load(None, {}, [f"{k}={v}" for k, v in given.items()]).config
    written = config.as_settings()
    assert Config.from_settings(written) == config
    assert list(written) == [k.name for k in KEYS]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "shake.conf"


@given_any(given=texts_by_key())
def test_printed_lines_load_again_once_the_secrets_are_given(
    given: dict[str, str], file: Path
) -> None:
    config = load(None, {}, [f"{k}={v}" for k, v in given.items()]).config
    lines = [line for line in config.effective_lines() if "***" not in line]
    file.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    secrets = [f"{k.name}={config.as_settings()[k.name]}" for k in KEYS if k.secret]
    assert load(str(file), {}, secrets).config == config
