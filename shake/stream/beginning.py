"""Where following begins: which shards of a stream's first listing are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from shake.schema import RETENTION
from shake.stream.listing import Listed, below, orphans_of
from shake.stream.shard import Shard, ShardState


def first_shards(listing: Iterable[Listed], now: float) -> list[Shard]:
    """Where following begins beside a copy: the shards that can hold a change of this moment.

    ``now`` is on the source's clock, and earlier than the listing.

    A Scan is eventually consistent, so it can miss a change that was written just before. So three
    kinds of shards count, each from its beginning: every open shard, the parent of each, and every
    closed shard whose child is not listed yet. Earlier changes are in the copy. All descendants of
    these shards are read too. The reason is a shard that was split: one half can have rolled over
    more than once since, and the other not. Without the descendants, an older change of a key
    would be applied again, and the later change would not. A shard whose parent is not listed can
    descend from any older shard without a listed child.
    """
    listed = {one.id: one for one in listing}
    parents = {one.parent for one in listed.values()}
    read = {one.id for one in listed.values() if not one.closed or one.id not in parents}
    oldest = min((int(listed[one].start) for one in read), default=0)
    read |= {listed[one].parent for one in read if listed[one].parent in listed}
    unlinked = (one for one in listed.values() if one.parent and one.parent not in listed)
    read |= {one.id for one in unlinked if int(one.start) > oldest}
    read |= below(read, listed)
    chosen = {one: listed[one] for one in read}
    return _new_shards(chosen, orphans_of(chosen, listed), now)


def all_shards(listing: Iterable[Listed], now: float) -> list[Shard]:
    """Everything that the stream still holds, where parents, and heads, may be gone for long."""
    listed = {one.id: one for one in listing}
    shards = _new_shards(listed, orphans_of(listed, ()), now - RETENTION)
    return [replace(shard, horizon=True) for shard in shards]


def _new_shards(
    chosen: dict[str, Listed], late: Collection[str], applied_through: float
) -> list[Shard]:
    """Shards that wait for no other begin at once.

    ``late``: their parent is not listed, or that of one above them: it is waited for, and if it
    does not come it was gone before (see Shards.learn).
    """
    waiting = {one.id for one in chosen.values() if one.parent in chosen or one.id in late}
    return [
        Shard(
            one.id,
            one.parent,
            one.start,
            applied_through=applied_through,
            state=ShardState.WAITING if one.id in waiting else ShardState.READY,
        )
        for one in chosen.values()
    ]
