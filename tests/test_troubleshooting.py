"""The page of messages: it quotes what the code says, and explains each message of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.messages import WHOLE, Message, explained, messages, texts_of_the_code
from tests.support.migration import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"

#: Texts that are no messages: good news, and what follows or begins another text.
NO_MESSAGES = (
    "every change made before … is applied",
    "source and target are equal as of that time",
    "set incr_sync_parallel = true, or ",
    "after … of … bytes of the answer",
    "its document of … bytes is larger than the … of",  # the quote has its other half too
)


def quotes() -> Iterator[str]:
    """The messages in the first column of the page's tables."""
    for table in re.split(r"(?m)^\| message \|.*\n", PAGE.read_text(encoding="utf-8"))[1:]:
        for row in table.partition("\n\n")[0].splitlines()[1:]:
            yield from re.findall(r"`([^`]+)`", row.split(" | ")[0])


QUOTES = sorted(set(quotes()))
#: Letters of a quote: a shorter one says nothing.
_LEAST = 8


def test_each_module_whose_texts_are_messages_exists() -> None:
    assert [one for one in WHOLE if not (ROOT / f"shake/{one}.py").is_file()] == []


def test_the_page_quotes_only_what_the_code_says() -> None:
    known = texts_of_the_code()
    assert len(QUOTES) > 200
    assert [one for one in QUOTES if not explained(one, known)] == []
    assert [one for one in QUOTES if len(one.replace("…", "")) < _LEAST] == []


@pytest.mark.parametrize("message", messages(), ids=lambda one: f"{one.file}:{one.line}")
def test_each_message_of_the_code_is_explained(message: Message) -> None:
    assert any(explained(one, [message.text]) for one in (*QUOTES, *NO_MESSAGES)), (
        f"docs/troubleshooting.md lacks: {message.text}"
    )
