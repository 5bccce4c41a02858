"""The least rights that a run needs: an IAM policy at the source, roles at the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from shake.config import Config
from shake.plan.plan import Plan, TablePlan

#: A statement of a policy, and a role of MongoDB, as JSON has them.
Statement: TypeAlias = Mapping[str, str | list[str]]
Role: TypeAlias = Mapping[str, str]

_VERSION = "2012-10-17"
_DESCRIBE, _SCAN = "dynamodb:DescribeTable", "dynamodb:Scan"
_OF_STREAMS = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
#: A table of unknown ARN, in any region and account.
_ANY_ARN = "arn:aws:dynamodb:*:*:table/{name}"


def iam_policy(config: Config, plan: Plan) -> dict[str, str | list[Statement]]:
    """The least policy for the tables of a plan, with their ARNs.

    Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html
    """
    followed = plan.followed
    unstreamed = [table for table in followed if table.enables_stream]
    scanned = config.scans or any(table.gap for table in plan.tables)
    read = plan.tables if scanned else followed
    keys = dict.fromkeys(table.table.key_arn for table in read if table.table.key_arn)
    statements = [
        _statement("ReadTables", [_DESCRIBE, *[_SCAN] * scanned], map(_arn, plan.tables)),
        # A stream that is enabled anew has another label.
        _statement("ReadStreams", _OF_STREAMS, (f"{_arn(table)}/stream/*" for table in followed)),
        _statement("EnableStreams", ["dynamodb:UpdateTable"], map(_arn, unstreamed)),
        # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
        _statement("DecryptTables", ["kms:Decrypt"], keys),
    ]
    if not config.plain_white_names or config.plain_white_names != config.filter_collection_white:
        statements.append(_statement("ListTables", ["dynamodb:ListTables"], ["*"]))
    return {"Version": _VERSION, "Statement": [one for one in statements if one["Resource"]]}


def _arn(plan: TablePlan) -> str:
    return plan.table.origin.arn or _ANY_ARN.format(name=plan.table.name)


def _statement(sid: str, actions: list[str], resources: Iterable[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": list(resources)}


def mongodb_roles(config: Config, plan: Plan) -> dict[str, list[Role]]:
    """The least built-in roles of MongoDB, by the key whose user needs them.

    Source: https://www.mongodb.com/docs/manual/reference/built-in-roles/
    """
    written = {table.namespace.partition(".")[0] for table in plan.tables}
    roles: dict[str, list[Role]] = {}
    checkpoints = [_role("readWrite", config.checkpoint_database)]
    if config.capabilities.documents == "bson":
        roles["target.address"] = [_role("readWrite", name) for name in sorted(written)]
        if config.sharded:
            roles["target.address"].append(_role("clusterManager", "admin"))
    if config.checkpoint_type == "mongodb":
        key = "checkpoint.address" if config.checkpoint_address else "target.address"
        roles[key] = roles.get(key, []) + checkpoints
    return roles


def _role(role: str, database: str) -> Role:
    return {"role": role, "db": database}
