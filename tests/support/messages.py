"""Finds the messages that a user can meet: texts of errors, refusals and warnings in the code."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shake.errors import ShakeError
from tests.support.migration import ROOT

#: What a message has in place of a name or number.
GAP = "\0"
#: A text of fewer words is a part of a message.
_WORDS = 5
#: Exit statuses of errors that the troubleshooting page explains one by one.
_STATUSES = (1, 3, 4)
#: Calls whose text is shown to the user.
_SHOWN = ("log.warning", "log.error", "notice", "self.notice")
#: Modules in which every text is a refusal, a warning, or what to do.
WHOLE = (
    "codec/items",
    "codec/number",
    "codec/statements",
    "copy/scheduler",
    "errors",
    "farm/writer",
    "follow/journaling",
    "plan/origins",
    "plan/planner",
    "plan/preflight",
    "plan/source_tables",
    "plan/warnings",
    "process/ulimits",
    "run/shutdown",
    "source/advice",
    "source/answer",
    "source/aws_profile",
    "source/client",
    "source/clock",
    "source/connection",
    "source/streams",
    "status/readiness",
    "stream/absence",
    "stream/journal",
    "targets/mongodb/advice",
    "targets/mongodb/applying",
    "targets/mongodb/building",
    "targets/mongodb/concern",
    "targets/mongodb/fields",
    "targets/mongodb/namespaces",
    "targets/mongodb/rights",
    "targets/mongodb/session",
    "targets/mongodb/writing",
    "targets/same_collection",
)
#: Not of a migration.
_APART = ("demo/",)


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """A text of the code, GAP for each part that varies."""

    file: str
    line: int
    text: str


def texts_of_the_code() -> set[str]:
    """Every text in the code, whatever it is for."""
    found = set()
    for path in sorted((ROOT / "shake").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = _docstrings(tree)
        found |= {text for _, text in _texts(tree) if text not in docs}
    return found


def messages() -> list[Message]:
    """The messages of errors, refusals and warnings."""
    found = set()
    for path in sorted((ROOT / "shake").rglob("*.py")):
        name = path.relative_to(ROOT / "shake").with_suffix("").as_posix()
        if name.startswith(_APART):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [tree] if name in WHOLE else _shown(tree, name)
        docs = _docstrings(tree)
        for node in nodes:
            found |= {
                Message(f"shake/{name}.py", line, text)
                for line, text in _texts(node)
                if len(text.replace(GAP, "").split()) >= _WORDS and text not in docs
            }
    return sorted(found)


def _shown(tree: ast.Module, name: str) -> Iterator[ast.AST]:
    """What is raised with one of the statuses, or logged, and the texts that it is made of."""
    module = importlib.import_module("shake." + name.removesuffix("/__init__").replace("/", "."))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if _raises(node, module) or _logs(node):
                yield node
                used = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
                yield from _assigned(function, used)
                yield from _assigned(tree, used)


def _raises(node: ast.AST, module: object) -> bool:
    if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
        return False
    kind = getattr(module, getattr(node.exc.func, "id", ""), None)
    is_error = isinstance(kind, type) and issubclass(kind, ShakeError)
    return is_error and getattr(kind, "exit_status", 0) in _STATUSES


def _logs(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in _SHOWN


def _assigned(scope: ast.Module | ast.FunctionDef, names: set[str]) -> Iterator[ast.AST]:
    """What is assigned to these names, directly in a module, or anywhere in a function."""
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    for node in nodes:
        if isinstance(node, ast.Assign) and any(ast.unparse(one) in names for one in node.targets):
            yield node.value


def _texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts below a node, with their lines: parts that are joined count as one."""
    if (text := _text(node)) is not None:
        yield getattr(node, "lineno", 0), text
        return
    for child in ast.iter_child_nodes(node):
        yield from _texts(child)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sd]|\{\w+\}", GAP, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or GAP for part in node.values)
    return None


def _docstrings(tree: ast.Module) -> set[str]:
    return {
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def explained(quote: str, texts: Iterable[str]) -> bool:
    """Whether one of the texts holds the quote, in which … stands for anything."""
    pattern = re.compile(".*".join(map(re.escape, quote.split("…"))), re.DOTALL)
    return any(pattern.search(text) for text in texts)
