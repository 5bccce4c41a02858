"""What each type of target can do. Imports no driver, so that each process can ask."""

from __future__ import annotations

from shake.targets import dynamodb, mongodb

#: By ``target.type``.
CAPABILITIES = {"mongodb": mongodb.CAPABILITIES, "aliyun_dynamo_proxy": dynamodb.CAPABILITIES}
