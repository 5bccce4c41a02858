"""What a configuration key is made of; all keys are in :mod:`shake.config.declared_keys`."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field
from typing import Any

from shake.config.kinds import TEXT, Kind
from shake.config.secrets import MASK
from shake.errors import UsageError

_OWN_LINE = "a remark needs a line of its own"
_QUOTES = ("''", '""', "``", "\u2018\u2019", "\u201c\u201d")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key as it was given: its text, and where (``file:line``, ``--set``, a variable)."""

    name: str
    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Key:
    """``secret`` finds what in the value is secret; None where nothing is.

    ``default`` is ``...`` where the key is required. ``shapes_data``: a copy that was begun with
    one value cannot continue with another one. ``limit`` says which single change is refused then.
    ``joins``: of several names that are given, all count, separated by ``;``.
    """

    name: str
    doc: str
    kind: Kind = TEXT
    default: Any = None
    aliases: tuple[str, ...] = ()
    secret: re.Pattern[str] | None = None
    shapes_data: bool = False
    limit: str = ""
    joins: bool = False

    @property
    def attribute(self) -> str:
        """The field of Config: ``convert._id`` is ``convert_id``."""
        return re.sub("_+", "_", self.name.replace(".", "_"))

    @property
    def required(self) -> bool:
        return self.default is ...

    @property
    def names(self) -> tuple[str, ...]:
        """The key's names, in the order in which they count."""
        return (self.name, *self.aliases)

    @property
    def variable(self) -> str:
        return "SHAKE_" + self.name.upper().replace(".", "_")

    @property
    def default_text(self) -> str:
        """The default as text; empty for none, and where the key is required."""
        return "" if self.default in (..., None, ()) else self.write(self.default)

    def read(self, setting: Setting) -> Any:
        """The value of a setting that is not empty. Raises UsageError."""
        shown = self.hide(setting.text)
        # A line break would come back from --print-config as another line.
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]", setting.text):
            raise UsageError(f"{setting.where}: {setting.name} holds a control character")
        if not self.kind.free and (wrong := mistake(setting.text)):
            raise UsageError(f"{setting.where}: {setting.name}: {wrong}")
        if self.secret and MASK in setting.text:
            raise UsageError(f"{setting.where}: {setting.name} is masked ({MASK}): give the secret")
        try:
            return self.kind.parse(setting.text)
        except ValueError:
            remark = f"; {_OWN_LINE}" if re.search(r"\s(;|//)", shown) else ""
            raise UsageError(
                f"{setting.where}: {setting.name} = {shown}: allowed is {self.kind.allowed}{remark}"
            ) from None

    def write(self, value: Any) -> str:
        """The text that :meth:`read` turns into the value again; empty for none."""
        return "" if value is None else self.kind.write(value)

    def hide(self, text: str) -> str:
        """The text with its secret parts masked."""
        return self.secret.sub(MASK, text) if self.secret else text


def mistake(text: str) -> str:
    """What is wrong with any value that looks like this. The value is not shown: it can be secret.

    A ``#`` before an ``@`` can belong to a password, which the check of addresses explains.
    """
    if found := invisible(text):
        return found
    if re.search(r"\s#[^@]*$", text):
        return _OWN_LINE
    quoted = len(text) > 1 and text[0] + text[-1] in _QUOTES
    return "remove the quotes around the value" if quoted else ""


def invisible(text: str) -> str:
    """What to do about a character that is not seen, as a copied line can have."""
    found = next((one for one in text if one != "\t" and not one.isprintable()), "")
    return found and f"there is an invisible character, U+{ord(found):04X}: type the line by hand"


def key(name: str, doc: str, kind: Kind = TEXT, default: Any = None, **more: Any) -> Any:
    """The dataclass field of a key; the arguments are those of :class:`Key`."""
    made = Key(name, doc, kind, default, **more)
    value = MISSING if made.required else default
    return field(default=value, repr=made.secret is None, metadata={"key": made})
