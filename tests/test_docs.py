"""The documents speak of what exists: files, folders, names in the code, pages and sections."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from shake.config.declared_keys import KEYS
from tests.support.migration import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: A file or folder of the project, and a name in its code, between backticks.
PLACE = re.compile(r"`((?:shake|tests|docs|bin|benchmarks|deploy|share|tools|\.ci)/[\w./@-]*)`")
NAME = re.compile(r"`(shake(?:\.\w+)+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")

#: A name of the code in a docstring, from the folder below shake on: targets.contract.Location.
ROOMS_OF_SHAKE = "|".join(path.parent.name for path in (ROOT / "shake").glob("*/__init__.py"))
INNER_NAME = re.compile(rf"\b(?<![\w.])((?:{ROOMS_OF_SHAKE}|target)\.[a-z_]+(?:\.\w+)*)\b")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def exists(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("folder", ["shake", "tests", "benchmarks"])
def test_docstrings_name_what_exists(folder: str) -> None:
    keys = {key.name for key in KEYS}
    wrong = []
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for name in INNER_NAME.findall(ast.get_docstring(node) or ""):
                known = any(key == name or key.startswith(f"{name}.") for key in keys)
                if not known and not exists(f"shake.{name}"):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.body[0].lineno}: {name}")
    assert wrong == []


def sections(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).lower().replace(" ", "-") for title in headings}


@each_page
def test_each_file_that_a_document_names_exists(page: Path) -> None:
    places = PLACE.findall(page.read_text(encoding="utf-8"))
    assert [one for one in places if not (ROOT / one).exists()] == []


@each_page
def test_each_name_in_the_code_that_a_document_names_exists(page: Path) -> None:
    names = NAME.findall(page.read_text(encoding="utf-8"))
    assert [one for one in names if not exists(one)] == []


@each_page
def test_each_link_between_documents_leads_to_a_page_and_a_section(page: Path) -> None:
    for place, section in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / place if place else page
        assert target.is_file(), place
        assert not section or section in sections(target), f"{place}#{section}"


def test_the_architecture_has_a_sentence_for_each_folder() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = [init.parent.relative_to(ROOT) for init in (ROOT / "shake").glob("*/**/__init__.py")]
    assert len(folders) > 10
    assert [one for one in folders if f"\n| `{one}/` | " not in text] == []


ROOMS = {"process": "config errors backoff", "source": "config schema stream clock errors backoff"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_that_others_use_knows_none_of_them(room: str) -> None:
    """A child that is asked for its stacks loads shake.status; nothing else of it does."""
    known = {room, *ROOMS[room].split()}
    for module in (ROOT / "shake" / room).glob("*.py"):
        imports = re.findall(r"^(?:from|import) shake\.(\w+)", module.read_text(), re.MULTILINE)
        assert set(imports) <= known, module
