"""The messages of the check's children, and the role that they make."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from shake.check.findings import Difference
from shake.check.fingerprint import Sums
from shake.check.sides import Advanced, Repair
from shake.check.target import KeyRange
from shake.process.channel import ChildChannel
from shake.process.messages import FromChild
from shake.process.role import Role
from shake.schema import Table
from shake.source.endpoint import Credentials, Endpoint
from shake.targets.contract import Fence

# ---- to a child


class CheckSetup(NamedTuple):
    """The second message."""

    endpoint: Endpoint
    credentials: Credentials
    repair: Repair


class Open(NamedTuple):
    """Begin with a table, of which so many processes each do a part; ``fence`` is for repairs."""

    table: Table
    processes: int
    fence: Fence


class Compare(NamedTuple):
    """Compare every item of a segment. Answered by Done."""

    segment: int
    segments: int


class Settle(NamedTuple):
    """Wait until no key is in doubt. Answered by Done."""


class ReadKeys(NamedTuple):
    """Read the keys of a part of the target. Answered by Done."""

    part: KeyRange


class SumItems(NamedTuple):
    """Answer with the Sums of the keys of all documents that items were compared with."""


class SumKeys(NamedTuple):
    """Answer with the Sums of all keys that were read."""


class LookFor(NamedTuple):
    """The next pieces of work look at keys in these buckets. Answered by Done."""

    buckets: tuple[int, ...]


class NameExtras(NamedTuple):
    """Report the documents of a part of the target that no item has. Answered by Done."""

    part: KeyRange


class ListKeys(NamedTuple):
    """Answer with the Keys of a part of the target."""

    part: KeyRange


class CountItems(NamedTuple):
    """Answer with Counts: how often the source has each key, in a segment."""

    segment: int
    segments: int


# ---- from a child


class Differs(NamedTuple):
    """A difference was found."""

    difference: Difference


class Done(NamedTuple):
    """A piece of work is done."""


class Keys(NamedTuple):
    """Keys of the target, each a BSON document (see extras.Key)."""

    documents: tuple[bytes, ...]


class Counts(NamedTuple):
    """How often each key was found, by its digest (see keys.digest)."""

    digests: dict[bytes, int]


#: What a child has a thread do; each is answered by one result.
Work: TypeAlias = (
    Compare | Settle | ReadKeys | SumItems | SumKeys | LookFor | NameExtras | ListKeys | CountItems
)
Result: TypeAlias = Done | Sums | Keys | Counts

ToChecker: TypeAlias = Credentials | Open | Work
FromChecker: TypeAlias = FromChild | Advanced | Differs | Result

CHECKER = Role[CheckSetup, ToChecker, FromChecker](
    "shake.check.child", CheckSetup, ToChecker, FromChecker
)
CheckChannel: TypeAlias = ChildChannel[CheckSetup, ToChecker, FromChecker]
