"""Any endpoint that speaks DynamoDB as a target."""

from shake.targets.contract import Capabilities

CAPABILITIES = Capabilities(
    documents="json",
    deletes_ranges=False,
    updates_only=False,
    renames=False,
    holds_checkpoints=False,
    folds_case=False,
)
