"""The commands of a running task and the replies to them, each a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

#: Bytes of a command at most.
MAX_BYTES = 4096


class Pause(NamedTuple):
    """Read nothing more at the source, until Resume."""


class Resume(NamedTuple):
    """Read on."""


class SetBudget(NamedTuple):
    """The read budget of a table, or of several by ``*`` and ``?``, as a user writes it."""

    table: str
    units: str


class Finish(NamedTuple):
    """End the run when every change that was made at the source before is applied."""


class GetStatus(NamedTuple):
    """How the task stands: the fields of a TaskSummary."""


class AwaitEnd(NamedTuple):
    """The reply comes when the run has ended; ``done`` says whether all was applied as asked."""


Command: TypeAlias = Pause | Resume | SetBudget | Finish | GetStatus | AwaitEnd

_ACTIONS: dict[str, type[Command]] = {
    "pause": Pause,
    "resume": Resume,
    "budget": SetBudget,
    "finish": Finish,
    "status": GetStatus,
    "wait": AwaitEnd,
}
#: What a user can type; the others are for ``shake control`` and ``shake status`` themselves.
USER_ACTIONS = ("pause", "resume", "budget", "finish")
_NAMES = {kind: action for action, kind in _ACTIONS.items()}


class Reply(NamedTuple):
    """Whether a command was carried out, and a line for the user; ``status`` for GetStatus."""

    done: bool
    line: str
    status: Mapping[str, Any] | None = None


def write_command(command: Command) -> bytes:
    """The line that :func:`read_command` reads."""
    document = {"action": _NAMES[type(command)], **command._asdict()}
    return json.dumps(document).encode() + b"\n"


def read_command(line: bytes) -> Command:
    """Raises ValueError, with a text for the sender, for anything else than a command."""
    try:
        document = json.loads(line)
    except ValueError:
        raise ValueError("a command is one line of JSON") from None
    if not isinstance(document, dict):
        raise ValueError("a command is a JSON object")
    action = document.pop("action", None)
    kind = _ACTIONS.get(action) if isinstance(action, str) else None
    if kind is None:
        raise ValueError(f"action is one of {', '.join(USER_ACTIONS)}")
    given = {name: value for name, value in document.items() if value is not None}
    if given.keys() != set(kind._fields) or not all(isinstance(v, str) for v in given.values()):
        fields = " and ".join(kind._fields) or "nothing else"
        raise ValueError(f"action {action} takes {fields}, as text")
    return kind(**given)


def write_reply(reply: Reply) -> bytes:
    """The line that :func:`read_reply` reads."""
    return json.dumps(reply._asdict()).encode() + b"\n"


def read_reply(line: bytes) -> Reply:
    """Raises ValueError for anything else than a reply."""
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("not a reply")
    done, text, status = (document.get(name) for name in Reply._fields)
    if not (isinstance(done, bool) and isinstance(text, str)):
        raise ValueError("not a reply")
    return Reply(done, text, status if isinstance(status, dict) else None)
