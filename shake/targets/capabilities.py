"""What the target of a configuration can do. Imports no driver, so that each process can ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shake.targets import dynamodb, mongodb
from shake.targets.contract import Capabilities

if TYPE_CHECKING:
    from shake.config import Config

_BY_TYPE = {"mongodb": mongodb.CAPABILITIES, "aliyun_dynamo_proxy": dynamodb.CAPABILITIES}


def capabilities(config: Config) -> Capabilities:
    """Those of ``target.type``."""
    return _BY_TYPE[config.target_type]
