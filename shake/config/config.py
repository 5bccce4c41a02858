"""The configuration of a task: the values of its keys, and what follows from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shake.config.declared_keys import KEYS, DeclaredKeys
from shake.config.filter import ScanFilter
from shake.config.key_type import Setting
from shake.config.names import bad_name, mapped, selects, stored_name
from shake.errors import UsageError
from shake.id_rule import IdRule
from shake.targets.capabilities import CAPABILITIES
from shake.targets.contract import Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(DeclaredKeys):
    """The configuration of one task, frozen. Its fields are the keys."""

    @classmethod
    def parse(cls, settings: Mapping[str, Setting], hint: str = "") -> Config:
        """Read settings, by key name; an empty one means the default.

        Raises UsageError, which begins with ``hint`` where a required one is missing.
        """
        values: dict[str, Any] = {}
        for k in KEYS:
            setting = settings.get(k.name)
            if setting is not None and setting.text:
                values[k.attribute] = k.read(setting)
            elif k.required:
                raise UsageError(f"{hint}{k.name} is required ({k.doc}): add {k.name} = VALUE")
        return cls(**values)

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Config:
        """The configuration that :meth:`as_settings` wrote; nothing is checked across keys."""
        if unknown := settings.keys() - {k.name for k in KEYS}:
            raise UsageError(f"settings: unknown key {min(unknown)!r}")
        return cls.parse({n: Setting(n, text, "settings") for n, text in settings.items()})

    def as_settings(self) -> dict[str, str]:
        """Every key as text, secrets in the clear: for a process of ours, not for people."""
        return {k.name: k.write(getattr(self, k.attribute)) for k in KEYS}

    def effective_lines(self) -> list[str]:
        """``key = value`` for every key, secrets masked; without them a file that loads again."""
        texts = self.as_settings()
        return [f"{k.name} = {k.hide(texts[k.name])}".rstrip(" ") for k in KEYS]

    def secrets(self) -> frozenset[str]:
        """Every secret text in this configuration, passwords inside addresses too."""
        texts = self.as_settings()
        return frozenset(s for k in KEYS if k.secret for s in k.secret.findall(texts[k.name]) if s)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES[self.target_type]

    @property
    def sharded(self) -> bool:
        """Whether the target is a sharded cluster."""
        return self.target_mongodb_type == "sharding"

    @property
    def scan_filter(self) -> ScanFilter | None:
        """The filter of the full copy's scan. Raises UsageError where it is malformed."""
        return ScanFilter.parse(
            self.full_read_filter_expression, self.full_read_filter_attributevalues
        )

    @property
    def scans(self) -> bool:
        """Whether a run can have to read items: to copy, or to copy again after a gap."""
        if self.sync_schema_only:
            return False
        return self.sync_mode != "incr" or self.gap_policy == "resync"

    @property
    def checkpoint_database(self) -> str:
        return self.checkpoint_db or f"{self.id}-checkpoint"

    @property
    def journal_folder(self) -> Path:
        return Path(self.journal_path or self.pid_path) / f"{self.id}.journal"

    @property
    def checkpoint_location(self) -> str:
        """The connection string, or the folder, of the checkpoints."""
        default = self.target_address if self.checkpoint_type == "mongodb" else "checkpoint"
        return self.checkpoint_address or default

    @property
    def id_rule(self) -> IdRule:
        """How documents hold the keys of their items."""
        return IdRule(self.convert_id, self.convert_type == "raw", self.id_mode == "key")

    def namespace(self, table: str) -> str:
        """Where a table goes, as ``database.collection``."""
        return mapped(self.namespace_map, table) or f"{self.id}.{table}"

    def checkpoint_of(self, table: str) -> str:
        """Where a table's checkpoint is, in words."""
        return self._stored_at(stored_name(table))

    def start_over(self, table: str) -> str:
        """How a table is begun again under the same id, in words."""
        return (
            f"start over under this id: shake forget --conf FILE {table} removes its checkpoint "
            f"({self.checkpoint_of(table)}); {self.begins_anew(table)}"
        )

    def begins_anew(self, table: str) -> str:
        """What the next start does with a table whose checkpoint was removed, in words."""
        if self.sync_mode == "incr":
            return f"the next start follows it anew, {self.follows_anew}"
        return (
            "the next start copies it anew; set target.db.exist = rename or drop where "
            f"{self.namespace(table)} exists"
        )

    @property
    def follows_anew(self) -> str:
        """From where ``sync_mode = incr`` follows a table again whose checkpoint was removed."""
        latest = self.incr_start == "latest"
        left_out = ", and changes made before that start are left out" if latest else ""
        return f"from incr.start = {self.incr_start}: nothing is copied{left_out}"

    def bad_of(self, table: str) -> str:
        """Where the kept items of a table are, in words."""
        return self._stored_at(bad_name(table))

    def _stored_at(self, name: str) -> str:
        database = self.checkpoint_database
        if self.checkpoint_type == "file":
            return f"file {self.checkpoint_location}/{database}/{name}.json"
        return f"collection {name} of database {database}"

    def selects_table(self, table: str) -> bool:
        """Whether the white or black list selects a table."""
        if self.filter_collection_white:
            return any(selects(one, table) for one in self.filter_collection_white)
        return not any(selects(one, table) for one in self.filter_collection_black)

    @property
    def plain_white_names(self) -> tuple[str, ...]:
        """The names of the white list without wildcards: each must exist."""
        return tuple(n for n in self.filter_collection_white if not re.search(r"[*?]", n))
