"""The messages of the check's children, and the role that they make."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from shake.check.findings import Difference
from shake.check.sides import Advanced, Repair
from shake.check.state import CheckSnapshot, SumsPart
from shake.check.stored import KeyRange
from shake.process.channel import ChildChannel
from shake.process.messages import FromChild
from shake.process.role import Role
from shake.schema import Table
from shake.source.endpoint import Credentials, Endpoint
from shake.targets.contract import NO_FENCE, Fence

# ---- to a child


class CheckSetup(NamedTuple):
    """The second message."""

    endpoint: Endpoint
    credentials: Credentials
    repair: Repair


class Open(NamedTuple):
    """Begin with a table, of which so many processes each do a part.

    ``seed`` is that of all their digests; ``fence`` is for repairs. ``task_ran``: see
    following.Following.ran. ``checkpoints_known``: those of the task can be read.
    """

    table: Table
    processes: int
    seed: bytes
    fence: Fence = NO_FENCE
    task_ran: bool = False
    checkpoints_known: bool = True


class Compare(NamedTuple):
    """Compare every item of a segment, from ``start`` on. Answered by Done."""

    segment: int
    segments: int
    start: bytes | None = None


class Doubt(NamedTuple):
    """Hold keys in doubt that an interrupted check has left. Answered by Done."""

    items: tuple[bytes, ...]
    extras: tuple[bytes, ...]


class ResolveDoubts(NamedTuple):
    """Wait until no key is in doubt. Answered by Done."""


class ReadKeys(NamedTuple):
    """Read the keys of a part of the target, which has this number. Answered by Done."""

    number: int
    part: KeyRange


class LookFor(NamedTuple):
    """The next pieces of work look at keys in these buckets. Answered by Done."""

    buckets: tuple[int, ...]


class NameExtras(NamedTuple):
    """Report the documents of a part of the target that no item has. Answered by Done."""

    number: int
    part: KeyRange


class Save(NamedTuple):
    """Answer with a CheckSnapshot, in its messages, by and by.

    ``durable``: so many differences of this process are.
    """

    durable: int


class Settled(NamedTuple):
    """What was sent before the Settle of this number is in the report."""

    number: int


class ListKeys(NamedTuple):
    """Answer with the Keys of a part of the target."""

    part: KeyRange


class CountItems(NamedTuple):
    """Answer with Counts: how often the source has each key, in a segment."""

    segment: int
    segments: int


# ---- from a child


class WriteLine(NamedTuple):
    """A line for the report."""

    line: str


class Settle(NamedTuple):
    """Answer with Settled, of this number, when all lines so far are in the report."""

    number: int


class Done(NamedTuple):
    """A piece of work is done."""


class Keys(NamedTuple):
    """Keys of the target, each a BSON document (see stored.Key)."""

    documents: tuple[bytes, ...]


class Counts(NamedTuple):
    """How often each key was found, by its digest (see keys.digest)."""

    digests: dict[bytes, int]


#: What a child has a thread do; each is answered by one result.
Work: TypeAlias = (
    Compare | Doubt | ResolveDoubts | ReadKeys | LookFor | NameExtras | ListKeys | CountItems
)
Result: TypeAlias = Done | Keys | Counts

ToChecker: TypeAlias = Credentials | Open | Save | Settled | Work
FromChecker: TypeAlias = (
    FromChild | Advanced | Difference | WriteLine | Settle | SumsPart | CheckSnapshot | Result
)

CHECKER = Role[CheckSetup, ToChecker, FromChecker](
    "shake.check.child", CheckSetup, ToChecker, FromChecker
)
CheckChannel: TypeAlias = ChildChannel[CheckSetup, ToChecker, FromChecker]
