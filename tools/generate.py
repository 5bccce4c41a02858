"""Writes the files that are made of the code; ``make generated``.

They are in the repository, so that an installation needs no further tool. A test fails where one of
them is old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from shake.cli.check import CHECK
from shake.cli.definition import root_parser
from shake.cli.demo import DEMO
from shake.cli.main import COMMANDS
from shake.cli.supervisor import RUN
from tools.completion import completion
from tools.dashboard import dashboard
from tools.example import example
from tools.manual import configuration_page, program_page, root_page
from tools.modules import modules
from tools.reference import reference
from tools.sections import metrics_page

ROOT = Path(__file__).resolve().parent.parent
_PROGRAMS = (RUN, CHECK, DEMO)
_MAN = "share/man"
#: The file of a program's completion, by shell.
_COMPLETIONS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}


def files() -> Mapping[str, Callable[[], str]]:
    """How each file is made, by its path in the repository."""
    made: dict[str, Callable[[], str]] = {
        "docs/configuration.md": reference,
        "docs/modules.md": modules,
        "docs/metrics.md": metrics_page,
        "deploy/shake.conf": example,
        "deploy/grafana-dashboard.json": dashboard,
        f"{_MAN}/man1/shake.1": partial(root_page, COMMANDS),
        f"{_MAN}/man5/shake.conf.5": configuration_page,
    }
    for command in COMMANDS:
        made[f"{_MAN}/man1/shake-{command.name}.1"] = lambda: ".so man1/shake.1\n"
    for command in _PROGRAMS:
        made[f"{_MAN}/man1/{command.program}.1"] = partial(program_page, command)
    for shell, path in _COMPLETIONS.items():
        made[path.format("shake")] = partial(_root_completion, shell)
        for command in _PROGRAMS:
            made[path.format(command.program)] = partial(completion, command.parser(), shell)
    return made


def _root_completion(shell: str) -> str:
    return completion(root_parser(COMMANDS), shell)


if __name__ == "__main__":
    for path, make in files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(make(), encoding="utf-8")
