"""What the target of a configuration can do. Imports no driver, so that each process can ask."""

from __future__ import annotations

from shake.targets import dynamodb, mongodb
from shake.targets.contract import Capabilities

_BY_TYPE = {"mongodb": mongodb.CAPABILITIES, "aliyun_dynamo_proxy": dynamodb.CAPABILITIES}


def capabilities(target_type: str) -> Capabilities:
    """Those of a ``target.type``."""
    return _BY_TYPE[target_type]
