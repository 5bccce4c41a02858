"""MongoDB as a target."""

from shake.targets.contract import Capabilities

CAPABILITIES = Capabilities(
    documents="bson",
    deletes_ranges=True,
    updates_only=True,
    renames=True,
    holds_checkpoints=True,
    folds_case=True,
)
