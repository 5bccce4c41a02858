"""Reads the configuration from file, environment and command line; refuses unknown keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from shake.config.check import check, check_proxies, unknown_options
from shake.config.config import Config
from shake.config.declared_keys import KEYS
from shake.config.key_type import Setting, invisible
from shake.errors import UsageError

#: Keys of NimoShake that mean nothing here.
_IGNORED = ("conf.version", "increase.persist.dir", "full.enable_index.primary")
_KNOWN = (*(name for k in KEYS for name in k.names), *_IGNORED)
_NO_FILE = "no configuration file is given: give one by --conf FILE, such as --conf my.conf; "
_NO_EQUALS = "no '=' found; write key = value"
_VARIABLES = {"SHAKE_" + name.upper().replace(".", "_"): name for name in _KNOWN}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked configuration, lines for the log, and where the value of each given key stands.

    ``warnings`` are of what is ignored though it was meant to count.
    """

    config: Config
    notices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    def effective_lines(self) -> Iterator[str]:
        """The lines of ``Config.effective_lines``, each behind a comment with its origin."""
        for key, line in zip(KEYS, self.config.effective_lines(), strict=True):
            yield f"# {self.origins.get(key.name, 'default')}"
            yield line


def load(path: str | None, environment: Mapping[str, str], settings: Sequence[str]) -> Loaded:
    """Read and check a configuration.

    ``path`` is the file, if there is one; ``environment`` is searched for ``SHAKE_...``;
    ``settings`` are the command line's ``key=value`` texts. Raises UsageError, in one line that
    names the key, where it stands, and what is allowed; never a secret.
    """
    notices: list[str] = []
    chosen: dict[str, Setting] = {}
    for layer in (
        _in_file(path) if path is not None else (),
        _in_environment(environment, notices),
        (_setting(text, "--set") for text in settings),
    ):
        chosen.update(_by_key(layer, notices))
    config = Config.parse(chosen, "" if path else _NO_FILE)
    check(config)
    check_proxies(environment)
    origins = {name: setting.where for name, setting in chosen.items() if setting.text}
    return Loaded(config, tuple(notices), tuple(unknown_options(config)), origins)


def _by_key(layer: Iterable[Setting], notices: list[str]) -> dict[str, Setting]:
    """One layer's settings by the key's own name; of several names the first that is given."""
    given = {setting.name: setting for setting in layer}
    for s in given.values():
        if s.name in _IGNORED:
            notices.append(f"{s.where}: {s.name} has no meaning here and is ignored")
        elif s.name not in _KNOWN:
            nearest = get_close_matches(s.name.lower(), _KNOWN, n=1, cutoff=0)[0]
            raise UsageError(
                f"{s.where}: unknown key {s.name!r}; the nearest known key is {nearest}"
            )
    chosen = {}
    for k in KEYS:
        named = [given[name] for name in k.names if name in given]
        used = [s for s in named if s.text] or named[:1]
        if k.joins and used:
            text, where = ";".join(s.text for s in used), ", ".join(s.where for s in used)
            chosen[k.name] = Setting(used[0].name, text, where)
        elif used:
            first = chosen[k.name] = used[0]
            notices += [
                f"{s.where}: {s.name} is not used, {first.name} counts"
                for s in used
                if s.text != first.text
            ]
    return chosen


def _in_file(path: str) -> Iterator[Setting]:
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        line = line.removesuffix("\r").strip(" \t")
        if not line or line.startswith("#"):
            continue
        where = f"{path}:{number}"
        setting = _setting(line, where)
        if setting.name in lines:
            raise UsageError(
                f"{where}: {setting.name} is already set on line {lines[setting.name]}; keep one"
            )
        lines[setting.name] = number
        yield setting


def _text(path: str) -> str:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        if "\0" in text:  # as each second byte of UTF-16
            raise UsageError(f"{path} has NUL bytes; save the configuration file as UTF-8")
        return text
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: byte {error.start} is not UTF-8; save the configuration file as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        near = _near(Path(path)) if isinstance(error, FileNotFoundError) else ""
        raise UsageError(f"cannot read the configuration file {path!r}: {reason}{near}") from None


def _near(path: Path) -> str:
    """The file of the same folder that has the nearest name, in words."""
    with suppress(OSError):
        names = [one.name for one in path.parent.iterdir() if one.suffix == path.suffix]
        for name in get_close_matches(path.name, names, n=1):
            return f"; the nearest is {path.with_name(name)}"
    return ""


def _in_environment(environment: Mapping[str, str], notices: list[str]) -> Iterator[Setting]:
    for variable, text in environment.items():
        if variable in _VARIABLES:
            where = f"environment variable {variable}"
            yield Setting(_VARIABLES[variable], text.strip(" \t"), where)
        elif variable.startswith("SHAKE_"):
            # Others use the prefix too (the tests, the codec's switch): no error, and only a
            # near miss is worth a word.
            for near in get_close_matches(variable, _VARIABLES, n=1, cutoff=0.85):
                notices.append(f"environment variable {variable} is not a key; is {near} meant?")


def _setting(text: str, where: str) -> Setting:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{where}: {_advice(text) or _NO_EQUALS}")
    name = name.strip(" \t")
    if not re.fullmatch(r"[\w.-]*", name):  # of an address, with its password, that has an option
        more = "there is more than a key before the '='; write key = value"
        raise UsageError(f"{where}: {_advice(name) or invisible(name) or more}")
    return Setting(name, value.strip(" \t"), where)


def _advice(line: str) -> str:
    """What to do about a line without ``key =``. It is not shown: it may be a secret."""
    if re.fullmatch(r"\[.*\]", line):
        return "there are no sections in this file: remove the line"
    if line.startswith((";", "//", "--")):
        return "a remark begins with #"
    name, separator, _ = re.split(r"([ \t:]|$)", line, maxsplit=1)
    if name not in _KNOWN:
        return ""
    return f"write {name} = value" + (", with '=' for ':'" if separator == ":" else "")
