"""A table and its copy, made without the farm: something for shake-check to look at."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shake import codec
from shake.codec.objectid import segment_prefix
from shake.config import load
from shake.source.aws_session import open_source
from shake.source.dynamodb import DynamoSource
from shake.source.scan import ScanPlan
from shake.targets.mongodb.target import MongoTarget
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY, Key, create_table, put_items

CONF = """\
id = {name}
sync_mode = full
source.endpoint_url = {source}
source.region = {region}
source.access_key_id = {access}
source.secret_access_key = {secret}
filter.collection.white = {name}
target.address = {target}
"""


@dataclass
class Copied:
    """``conf`` and ``settings`` are what shake-check is to be started with."""

    name: str
    conf: Path
    settings: dict[str, str]
    source: Any
    target: Any

    @property
    def arguments(self) -> list[str]:
        """The command line."""
        return ["--conf", str(self.conf), *(f"--set={setting}" for setting in self._overrides)]

    @property
    def _overrides(self) -> list[str]:
        """``settings`` as key=value."""
        return [f"{key}={value}" for key, value in self.settings.items()]

    @property
    def collection(self) -> Any:
        """The target's collection."""
        return self.target.client[self.name][self.name]

    def put(self, *items: dict[str, Any]) -> None:
        """Put items into the source alone."""
        put_items(self.source.client, self.name, items)

    def delete(self, **key: Any) -> None:
        """Delete an item of the source alone."""
        self.source.client.delete_item(TableName=self.name, Key=key)

    def copy(self, *, indexes: bool = True) -> None:
        """Copy the table as the configuration says."""
        config = load(str(self.conf), {}, self._overrides).config
        stop = threading.Event()
        client = DynamoSource(
            *open_source(config), on_retry=lambda retry: None, stop=stop, random=random.Random(0)
        )
        target = MongoTarget(config, stop, lambda reason: None)
        table = client.describe(self.name)
        target.create(config.namespace(self.name), table)
        writer = target.writer(config.namespace(self.name), table)
        plan = ScanPlan(self.name, 1, filter=config.scan_filter)
        options = codec.Options.of(config, table.keys)
        start, number = None, 0
        while True:
            page = codec.scan_page(client.call("Scan", plan.request(0, start)), options)
            out = memoryview(bytearray(16 << 20))
            length, _ = page.fill(out, segment_prefix(0x65000000, 0), number)
            writer.write(out[:length])
            start, number = page.last_key, number + page.count
            if start is None:
                break
        if indexes:
            writer.build_indexes(lambda line: None)
        target.close()
        client.close()


def make_table(
    dynamodb: Any,
    mongo: Any,
    name: str,
    folder: Path,
    items: Iterable[dict[str, Any]],
    pk: Key = ("pk", "S"),
    sk: Key | None = None,
    indexes: Any = None,
    **settings: str,
) -> Copied:
    """A table with these items, not copied yet; ``settings`` with ``__`` for each dot."""
    create_table(dynamodb.client, name, pk=pk, sk=sk, indexes=indexes)
    conf = folder / "check.conf"
    conf.write_text(
        CONF.format(
            name=name,
            source=dynamodb.url,
            region=REGION,
            access=ACCESS_KEY,
            secret=SECRET_KEY,
            target=mongo.uri,
        )
    )
    named = {key.replace("__", "."): value for key, value in settings.items()}
    copied = Copied(name, conf, named, dynamodb, mongo)
    copied.put(*items)
    return copied
