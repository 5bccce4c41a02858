"""What a codec promises: DynamoDB JSON in as bytes, documents ready for the wire out as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar

from shake.id_rule import IdRule
from shake.schema import Keys

if TYPE_CHECKING:
    from shake.config import Config

T = TypeVar("T", bound="Options")


@dataclass(frozen=True, slots=True)
class Options:
    """How items become documents (README: What lands in MongoDB).

    ``convert`` is ``change``, ``mchange``, ``raw``, or ``json`` (the item's own DynamoDB JSON, for
    a target that speaks DynamoDB). ``id_prefix`` renames a top-level ``_id``. ``overflow`` is
    ``string`` or ``error``. ``id_mode`` is ``objectid`` or ``key``. ``rejects``: what cannot be
    stored is left out and reported (see Reject), where without it ItemError is raised.
    """

    keys: Keys
    convert: str = "change"
    id_prefix: str = "pre"
    overflow: str = "string"
    id_mode: str = "objectid"
    rejects: bool = False

    @property
    def id_rule(self) -> IdRule:
        """How documents hold the keys of their items."""
        return IdRule(self.id_prefix, self.convert == "raw", self.id_mode == "key")

    @classmethod
    def of(cls: type[T], config: Config, keys: Keys, **more: bool) -> T:
        """As a configuration has them."""
        return cls(
            keys,
            config.convert_type if config.capabilities.documents == "bson" else "json",
            config.convert_id,
            config.convert_number_overflow,
            config.id_mode,
            config.bad_items == "keep",
            **more,
        )


@dataclass(frozen=True, slots=True)
class ChangeOptions(Options):
    """How changes become statements.

    ``sharded``: the collection is sharded by the partition key, so that every statement has to name
    it. ``upsert``: a MODIFY of what the target does not hold inserts it. ``insert_only``: an INSERT
    is a plain insert, which the target refuses where it holds the key.
    """

    sharded: bool = False
    upsert: bool = True
    insert_only: bool = False


#: A response: bytes; or a view of a buffer whose last byte is a 0 that is not part of it, so that a
#: parser needs no other mark of the end. It must stay as it is until all of it is given out.
Body: TypeAlias = bytes | memoryview


class Reject(NamedTuple):
    """An item of a page, or the last change of its key, that cannot be stored, and why.

    ``number`` counts the items, or the records, of the response from 0.
    """

    number: int
    reason: str


class _Page(Protocol):
    """A response on its way to what is made of it."""

    @property
    def done(self) -> bool:
        """Whether all of that is given out."""

    def take_rejects(self) -> list[Reject]:
        """What was left out since the last call."""


class ScanPage(_Page, Protocol):
    """One Scan response on its way to documents, which it gives out once, in order.

    Once it is ``done``, and not before: ``count`` documents were made of it; ``scanned`` items
    were read for it (more, where a filter is on); ``capacity`` is the consumed read capacity in
    units, 0.0 where the response has none; ``last_key`` is the raw typed JSON of LastEvaluatedKey,
    never converted, or None at the end of the segment.
    """

    count: int
    scanned: int
    capacity: float
    last_key: bytes | None

    def fill(self, out: memoryview, prefix: bytes, number: int) -> tuple[int, int]:
        """Write the next documents, whole ones only, into ``out``; return (bytes, documents).

        Documents stand one behind the other, each starting with its own length as a little-endian
        int32 that counts itself: BSON does so by nature, ``json`` gets it as a header of 4 bytes.

        In ``objectid`` mode ``_id`` is ``prefix`` (7 bytes) + (``number`` + i) as 5 bytes
        big-endian, where i counts the documents of the page from 0: a page filled in several
        calls is always given the same ``number``.

        Raises CorruptPage where the page turns out not to be one, ItemError for an item that
        cannot be stored, or is larger than an empty ``out``. With ``Options.rejects`` it raises
        ItemError only for an item without its key.
        """


class Statements(NamedTuple):
    """What a fill wrote, (bytes, statements) of each kind, one behind the other in this order.

    Each statement is a document behind its length, ready for a command of its kind: ``{q, u,
    upsert}`` for ``update``, the document itself for ``insert``, ``{q, limit: 1}`` for ``delete``.
    With ``json`` they are the item's JSON, for deletes the key's.
    Source: https://www.mongodb.com/docs/manual/reference/command/update/#syntax
    """

    updates: tuple[int, int] = (0, 0)
    inserts: tuple[int, int] = (0, 0)
    deletes: tuple[int, int] = (0, 0)


class ChangePage(_Page, Protocol):
    """Turns one GetRecords response into statements, which it returns once.

    Of all changes to one key, only the last one counts. So the statements can be applied in any
    order. ``records`` is the number of records in the response. ``sequence`` is the SequenceNumber
    of the last record ("" if there is none). ``created`` is that record's
    ApproximateCreationDateTime in Unix seconds (0.0 if there is none). ``next_iterator`` is the
    iterator of the next request, or None if the shard has ended.
    """

    records: int
    sequence: str
    created: float
    next_iterator: str | None

    def fill(self, out: memoryview) -> Statements:
        """Write the next statements, whole ones only, into ``out``.

        Raises CorruptPage where the response turns out not to be one, ItemError for an item that
        cannot be stored, or whose statement is larger than an empty ``out``. With
        ``Options.rejects`` it raises ItemError only for a change without key or new image.
        """


class KeyForm(NamedTuple):
    """Where documents hold the key of their item, in ``names`` of ``types`` (``S``, ``N``, ``B``).

    ``by_id``: in their ``_id``; ``raw``: each value is a document of its type and itself.
    """

    by_id: bool
    raw: bool
    names: tuple[bytes, ...]
    types: tuple[bytes, ...]

    @classmethod
    def of(cls, rule: IdRule, keys: Keys) -> KeyForm:
        """As a rule has it."""
        names = [key.name if rule.by_key else rule.name(key.name) for key in keys]
        return cls(
            rule.by_key,
            rule.raw,
            tuple(name.encode("utf-8", "surrogatepass") for name in names),
            tuple(key.type.encode() for key in keys),
        )


class Matcher(Protocol):
    """Documents of a page, to be matched with the stored documents of their keys.

    A document is matched where one stored document, and no other, has its key, and says the same:
    byte for byte, or with fields in another order, or whole numbers of the other size. The ``_id``
    counts where it is the key. All others are unmatched, among them those whose stored documents
    are broken, or hold a name twice.
    """

    def __len__(self) -> int:
        """How many documents the page has."""

    def filter(self, first: int, last: int, scanned: bool) -> bytes:
        """The filter, as BSON, that selects the stored documents of some: ``first`` to ``last``.

        ``scanned`` says that a Scan without a filter gave the documents, in this order: then all
        partitions but the first and the last are there as a whole, and selected by their key.
        """

    def match(self, stored: bytes | memoryview) -> None:
        """Look at stored documents, one behind the other. Raises ValueError where they are none."""

    def unmatched(self) -> list[int]:
        """The numbers of those that are not matched."""

    def add(self, sums: memoryview) -> int:
        """Add the keys of the matched ones to sums (see Digests); return how many there are."""


class Digests(Protocol):
    """Digests, under a secret seed of 16 bytes, of stored documents that stand in any form.

    Sums are 2**n unsigned integers of 8 bytes, one for each bucket of keys: to that which the last
    8 bytes of its key's digest say, a document adds the first 8.
    """

    def add(self, documents: bytes | memoryview, sums: memoryview) -> int:
        """Add the keys of documents, one behind the other; return how many there are."""

    def within(self, documents: bytes | memoryview, marks: bytes) -> list[bytes]:
        """Those documents whose keys fall into marked buckets: each has a bit of ``marks``."""

    def key(self, document: bytes) -> bytes:
        """The digest of a document's key: that of another one is equal where MongoDB says so."""

    def fields(self, document: bytes) -> bytes | None:
        """The digest of what a document says, in any order; None where that is not certain."""


class Codec(Protocol):
    """The public interface of an implementation."""

    def scan_page(self, body: Body, options: Options) -> ScanPage:
        """Begin with a Scan response. Raises CorruptPage when it is not one, or ``fill`` does."""

    def change_page(self, body: Body, options: ChangeOptions) -> ChangePage:
        """Begin with a GetRecords response.

        Raises CorruptPage when it is not one, ItemError for a change that no statement makes.
        """

    def batches(
        self, documents: memoryview, most: int, most_bytes: int
    ) -> list[tuple[int, int, int]]:
        """Cut what ``fill`` wrote into batches of at most so many documents and bytes.

        Returns (start, end, documents) of each batch. A larger document forms a batch alone.
        Raises ValueError where a length does not fit.
        """

    def matcher(
        self, documents: bytes | memoryview, seed: bytes, ours: KeyForm, stored: KeyForm
    ) -> Matcher:
        """Begin to match documents, one behind the other, that hold their keys as ``ours``."""

    def digests(self, seed: bytes, form: KeyForm) -> Digests:
        """The digests of documents that hold their keys in this form."""

    def cut_reply(self, reply: bytes | memoryview) -> tuple[bytes, bytes]:
        """The answer of a find or getMore with an empty batch, and the documents of its batch.

        These are one behind the other. Raises ValueError where it is no such answer; one without a
        cursor, such as that of an error, has no documents.
        """

    def add_sums(self, sums: memoryview, more: bytes | memoryview) -> None:
        """Add sums (see Digests) to others. Raises ValueError where these are not as many."""


class CorruptPage(ValueError):
    """The bytes are not the answer they should be; the caller fetches them again."""
