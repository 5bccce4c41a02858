"""Asks the source whether what a checkpoint has not applied yet is still there."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool

from shake.errors import SourceError, as_refusal
from shake.plan.plan import Plan
from shake.schema import Question
from shake.source.client import Unreachable
from shake.source.contract import Source
from shake.stream.shard import Shard, ShardState
from shake.stream.suspicion import ShardAnswer

#: Shards that are asked for at the same time.
_THREADS = 8
#: Tries of each request.
_MAX_TRIES = 5


def gap_warnings(source: Source, plan: Plan) -> list[str]:
    """A line for each shard whose unread records are gone, by what the source says now.

    One answer proves nothing, so this refuses no start. Raises RefusedError where the source
    does not answer.
    """
    asked = [
        (table.table.name, table.stream.record.arn, shard)
        for table in plan.tables
        if table.stream and table.stream.record and not table.gap
        if table.stream.record.arn == table.stream.stream.arn
        for shard in table.stream.shards
        if _is_needed(shard)
    ]

    def ask(one: tuple[str, str, Shard]) -> str:
        name, arn, shard = one
        answer = source.answer(arn, Question(shard.id, *shard.reached), max_tries=_MAX_TRIES)
        if answer is ShardAnswer.THERE:
            return ""
        return (
            f"table {name}: GAP: what is not applied yet of shard {shard.id} is {answer.value}: "
            "where the source still says so after the start, changes are lost, and gap.policy "
            "decides what is done"
        )

    with as_refusal(Unreachable, SourceError), ThreadPool(_THREADS) as threads:
        return [line for line in threads.map(ask, asked) if line]


def _is_needed(shard: Shard) -> bool:
    """Whether the rest of it must still be there: not all is applied, or in the journal."""
    begun = shard.sequence or not shard.horizon
    return bool(begun) and shard.state is not ShardState.APPLIED and not shard.fully_journaled
