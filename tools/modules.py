"""Makes the list of all modules, ``docs/modules.md``, from the first line of each docstring."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_HEAD = """# Modules

<!-- Made by make generated; edit the first line of the module's docstring instead. -->

Every file of the program, with what it does. [ARCHITECTURE](ARCHITECTURE.md) says in which order
data flows through the folders, where to change what, and where to look for which symptom.
"""


def modules() -> str:
    """The page: a table for each folder."""
    parts = [_HEAD]
    for folder in sorted({path.parent for path in (ROOT / "shake").rglob("*.py")}):
        name = folder.relative_to(ROOT).as_posix()
        rows = [f"| `{path.name}` | {_sentence(path)} |" for path in _files(folder)]
        parts.append(
            "\n".join([f"## {name}", "", "| file | what it does |", "|---|---|", *rows, ""])
        )
    return "\n".join(parts)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.py")) if ast.parse(path.read_text()).body]


def _sentence(path: Path) -> str:
    """The first line of a module's docstring, as Markdown."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text.partition("\n")[0])
    return line.replace("``", "`").replace("|", r"\|")
