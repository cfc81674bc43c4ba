"""What a collection says of itself, and what a new one is to be like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, Field, JsonValue

from vecmigrate.errors import InputError
from vecmigrate.points.batch import Payload, PointId
from vecmigrate.points.canonical import canonical_setting, canonical_text

ORIGIN_FIELD = "vecmigrate_origin"
"""Payload field that says where a point's vector comes from."""


ENCODED, TRANSLATED = "encoded", "translated"


TEXT_FIELDS = ("text", "page_content", "document", "content", "body", "chunk", "passage")
"""Payload fields that hold the embedded text by common habit, tried in this order."""


class Metric(StrEnum):
    """How a collection compares vectors."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLID = "euclid"
    MANHATTAN = "manhattan"


class IdKind(StrEnum):
    """What a collection's ids are."""

    INTEGER = "integer"
    UUID = "uuid"
    STRING = "string"
    MIXED = "mixed"
    UNKNOWN = "unknown"


class EncoderIdentity(BaseModel, frozen=True, extra="forbid"):
    """Which encoder made a vector; two vectors are comparable only if these agree.

    Attributes
    ----------
    name
        The model's name, as on its hub or server.
    revision
        A commit, or the hash of the weights; None if the provider tells none.
    dimension
        Length of its vectors.
    prompt
        Text set before each document; None if there is none.
    normalized
        True if each vector has unit length, None if not told.
    """

    name: str
    revision: str | None = None
    dimension: int
    prompt: str | None = None
    normalized: bool | None = None

    def same_as(self, other: EncoderIdentity) -> bool:
        """True unless the two are known to differ.

        An unknown revision is not a difference; an identity known by its name alone
        (``normalized`` is None) is compared by name and dimension.
        """
        if (self.name, self.dimension) != (other.name, other.dimension):
            return False
        if None in (self.normalized, other.normalized):
            return True
        if None not in (self.revision, other.revision) and self.revision != other.revision:
            return False
        return (self.prompt, self.normalized) == (other.prompt, other.normalized)

    def __str__(self) -> str:
        revision = f"@{self.revision[:12]}" if self.revision else ""
        prompt = f", prompt {self.prompt!r}" if self.prompt else ""
        norm = {True: ", unit length", False: ", free length", None: ""}[self.normalized]
        return f"{self.name}{revision} ({self.dimension} dimensions{norm}{prompt})"


class Provenance(BaseModel, frozen=True):
    """What vecmigrate leaves with a collection that it wrote.

    Attributes
    ----------
    updated_at
        When it was last brought in step with its source; None if it never was.
    """

    vecmigrate_version: str
    source: str
    encoder: EncoderIdentity | None = None
    translator_sha256: str | None = None
    created_at: str
    updated_at: str | None = None

    def as_of(self, time: str | None) -> Provenance:
        """Return the same of a collection that was brought in step at ``time``."""
        return self.model_copy(update={"updated_at": time})

    def run(self) -> str:
        """Name the run that this is of; two have the same if all is, the date included."""
        return hashlib.blake2b(
            self.model_dump_json(exclude={"updated_at"}).encode(), digest_size=16
        ).hexdigest()


UNFINISHED = "unfinished"
"""What the note of a collection begins with that a migration has yet to finish."""


def unfinished(collection: object) -> InputError:
    """Return the error for a collection that a migration has yet to finish."""
    return InputError(
        f"{collection} is unfinished", remedy="Run its migration again, which continues it."
    )


FINGERPRINT_FORM = "2"
"""What is digested, and how. A new form gets a new name, so that it is not taken for a change."""


def same_form(fingerprint: str, other: str) -> bool:
    """Whether two fingerprints can be compared: versions before form 2 named none."""
    return fingerprint.rpartition(":")[0] == other.rpartition(":")[0]


class CollectionDescription(BaseModel, frozen=True):
    """A collection as its connector sees it, without reading the vectors.

    Attributes
    ----------
    uri
        What opens it.
    store
        The connector's name.
    index_type
        In the store's own words, as ``IVF256,Flat`` or ``HNSW(m=16)``.
    count, dimension
        Points, and length of the vector that is migrated.
    count_is_exact
        False if the store cannot count exactly.
    without_vector
        How many of the points do not have the vector that is migrated.
    lossy
        True if vectors are stored as codes, from which they come back changed.
    settings
        What a sink of the same store needs to make a collection alike; JSON.
    notes
        What a user should know: parts that will not be carried over, and why.
    provenance
        What vecmigrate left there when it wrote the collection, else None.
    multivector
        True if each point has any number of vectors.
    other_vectors
        Names of the points' other vectors; :meth:`Source.whole_batches` gives them as extras.
    in_place
        True if its vectors were added to the source's own points.
    keyed_ids
        True if an id of the store is unique within a key only, and ids are spelled ``KEY/ID``.
    vector
        The name by which readers ask for its vectors; None if they need none.
    """

    uri: str
    store: str
    index_type: str
    count: int = Field(ge=0)
    count_is_exact: bool = True
    without_vector: int = 0
    dimension: int = Field(gt=0)
    metric: Metric
    id_kind: IdKind
    payload_fields: tuple[str, ...] = ()
    text_field: str | None = None
    lossy: bool = False
    settings: dict[str, JsonValue] = {}
    notes: tuple[str, ...] = ()
    provenance: Provenance | None = None
    multivector: bool = False
    other_vectors: tuple[str, ...] = ()
    in_place: bool = False
    keyed_ids: bool = False
    vector: str | None = None

    def require_finished(self) -> None:
        """Make sure that no migration has yet to finish it.

        Raises
        ------
        InputError
        """
        if any(note.startswith(UNFINISHED) for note in self.notes):
            raise unfinished(self.uri)

    def fingerprint(self) -> str:
        """Digest all but the URI and the notes, which depend on how the collection is reached.

        The order of fields and settings does not count, see :func:`canonical_setting`. The vector's
        name is among the settings. The fingerprint begins with its form, see
        :func:`same_form`.
        """
        told = self.model_dump(mode="json", exclude={"uri", "notes", "vector"})
        described = canonical_setting(told)
        digest = hashlib.blake2b(canonical_text(described).encode(), digest_size=16).hexdigest()
        return f"{FINGERPRINT_FORM}:{digest}"


class TargetSpec(BaseModel, frozen=True):
    """What a sink is to create.

    ``settings`` count only for a sink of the store ``store``; any other one goes by the metric.

    Attributes
    ----------
    source_dimension, source_count
        The source's, by which limits on sizes are scaled.
    keep_limits
        Refuse a target for which limits copied from the source are too small, instead of raising
        them.
    work
        Tells what is moved and by what, the same in each run of a job, also in one that knows
        nothing of the others; None if nothing is known of it.
    shared
        Others write to the target too, and have perhaps begun already; see :attr:`Sink.shared`.
    """

    dimension: int = Field(gt=0)
    metric: Metric
    store: str | None = None
    settings: dict[str, JsonValue] = {}
    text_field: str | None = None
    provenance: Provenance | None = None
    source_dimension: int | None = None
    source_count: int | None = None
    keep_limits: bool = False
    work: str | None = None
    shared: bool = False

    def provenance_as_of(self, time: str | None) -> Provenance | None:
        """Return the provenance of a target that has what its source had at ``time``, if known."""
        made = self.provenance
        return made if made is None or time is None else made.as_of(time)

    @classmethod
    def like(cls, source: CollectionDescription, **changes: Any) -> Self:
        """A spec for a collection like ``source``, with ``changes`` (as ``dimension=768``)."""
        return cls.model_validate(
            {
                "dimension": source.dimension,
                "metric": source.metric,
                "store": source.store,
                "settings": source.settings,
                "text_field": source.text_field,
                "source_dimension": source.dimension,
                "source_count": source.count,
                **changes,
            }
        )


def detect_text_field(payloads: Iterable[Payload]) -> str | None:
    """Name the field that most likely holds the embedded text, or None.

    A field of :data:`TEXT_FIELDS` that holds text wins; else the string field that is longest on
    average, if that is at least three words long.
    """
    texts: dict[str, list[str]] = {}
    for payload in payloads:
        for name, value in payload.items():
            if isinstance(value, str) and value.strip():
                texts.setdefault(name, []).append(value)
    for name in TEXT_FIELDS:
        if name in texts:
            return name
    wordy = {
        name: sum(map(len, values)) / len(values)
        for name, values in texts.items()
        if sum(len(v.split()) for v in values) / len(values) >= 3
    }
    # Sorted, since stores give fields in any order, and two may be equally long.
    return max(sorted(wordy), key=wordy.__getitem__, default=None)


def detect_id_kind(ids: Sequence[PointId]) -> IdKind:
    """Tell the kind of ids from a sample."""
    kinds = {_kind_of(i) for i in ids}
    if not kinds:
        return IdKind.UNKNOWN
    return kinds.pop() if len(kinds) == 1 else IdKind.MIXED


def _kind_of(point_id: PointId) -> IdKind:
    if not isinstance(point_id, str):
        return IdKind.INTEGER
    plain = point_id.replace("-", "")
    is_uuid = len(plain) == 32 and all(c in "0123456789abcdefABCDEF" for c in plain)
    return IdKind.UUID if is_uuid else IdKind.STRING
