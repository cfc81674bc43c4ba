"""What is in a collection: its description, and statistics of its vectors in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, JsonValue

from vecmigrate.connector.source import Source, fetch_existing
from vecmigrate.errors import MismatchError
from vecmigrate.evaluation.search import distances
from vecmigrate.points.batch import UNIT_TOLERANCE, IdArray, Vectors, row_norms
from vecmigrate.points.canonical import canonical_setting
from vecmigrate.points.collection import ORIGIN_FIELD, CollectionDescription, Metric
from vecmigrate.points.sampling import sample_uniform

READ_BATCH = 8192


class VectorStatistics(BaseModel):
    """Of the vectors read.

    Attributes
    ----------
    read
        Vectors read; the shares are of these.
    norm_mean, norm_std, norm_min, norm_max
        Of the lengths of finite vectors; None if there are none.
    unit_share, zero_share, nan_share
        Vectors of length 1 (within float16's rounding), of length 0, and not finite.
    duplicate_share
        Vectors equal to one before them.
    """

    read: int
    norm_mean: float | None
    norm_std: float | None
    norm_min: float | None
    norm_max: float | None
    unit_share: float
    zero_share: float
    nan_share: float
    duplicate_share: float


class Inspection(BaseModel):
    """A description with statistics."""

    collection: CollectionDescription
    vectors: VectorStatistics


def inspect(
    source: Source, *, limit: int | None = None, progress: Callable[[int], None] | None = None
) -> Inspection:
    """Describe a collection and read its vectors, or the first ``limit``, once.

    Memory is 12 bytes a vector read: its length, and a 64-bit hash that finds duplicates.
    """
    norms: list[NDArray[np.floating]] = []
    hashes: list[NDArray[np.uint64]] = []
    read = 0
    several = source.describe().multivector
    batches = (
        source.whole_batches(READ_BATCH) if several else source.batches(READ_BATCH, payloads=False)
    )
    for batch in batches:
        vectors = batch.vectors if limit is None else batch.vectors[: limit - read]
        norms.append(row_norms(vectors))
        hashes.append(_row_hashes(vectors))
        read += len(vectors)
        if progress is not None:
            progress(len(vectors))
        if limit is not None and read >= limit:
            break
    return Inspection(collection=source.describe(), vectors=_statistics(norms, hashes))


def _statistics(
    norm_parts: list[NDArray[np.floating]], hash_parts: list[NDArray[np.uint64]]
) -> VectorStatistics:
    norms = np.concatenate([np.empty(0, np.float32), *norm_parts])
    hashes = np.concatenate([np.empty(0, np.uint64), *hash_parts])
    finite = norms[np.isfinite(norms)].astype(np.float64)

    def share(count: int) -> float:
        return count / len(norms) if len(norms) else 0.0

    return VectorStatistics(
        read=len(norms),
        norm_mean=float(finite.mean()) if len(finite) else None,
        norm_std=float(finite.std()) if len(finite) else None,
        norm_min=float(finite.min()) if len(finite) else None,
        norm_max=float(finite.max()) if len(finite) else None,
        unit_share=share(int((np.abs(norms - 1) <= UNIT_TOLERANCE).sum())),
        zero_share=share(int((norms == 0).sum())),
        nan_share=share(len(norms) - len(finite)),
        duplicate_share=share(len(hashes) - len(np.unique(hashes))),
    )


def _row_hashes(vectors: Vectors) -> NDArray[np.uint64]:
    """Hash rows by multiply-shift with fixed odd multipliers (Dietzfelbinger et al. 1997)."""
    multipliers = np.random.default_rng(0).integers(
        0, 2**63, size=vectors.shape[1], dtype=np.uint64
    ) * np.uint64(2) + np.uint64(1)
    bits = vectors.view(np.uint32).astype(np.uint64)
    bits *= multipliers
    hashes: NDArray[np.uint64] = bits.sum(axis=1, dtype=np.uint64)
    return hashes


class ReconstructionError(BaseModel):
    """Of points that both collections have.

    Attributes
    ----------
    originals
        URI of the collection that has the vectors as they were.
    compared, missing
        Points drawn that it has, and that it has not.
    mean, p95, maximum
        Distance of a vector from its original, relative to the original's length; for cosine, of
        vectors of unit length.
    cosine_mean
        Cosine similarity of a vector and its original.
    """

    originals: str
    compared: int
    missing: int
    mean: float
    p95: float
    maximum: float
    cosine_mean: float


def reconstruction_error(
    source: Source, originals: Source, *, size: int, seed: int = 0
) -> ReconstructionError:
    """Compare up to ``size`` points, drawn uniformly, with their originals by id.

    Raises
    ------
    MismatchError
        If the collections differ in dimension, or none of the points is in both.
    """
    ours, theirs = source.describe(), originals.describe()
    if ours.dimension != theirs.dimension:
        raise MismatchError(
            f"{ours.uri} has {ours.dimension} dimensions, {theirs.uri} {theirs.dimension}",
            remedy="Name the collection with the vectors that this one was built from.",
        )
    drawn = sample_uniform(source.batches(READ_BATCH, payloads=False), size, seed)
    ids: IdArray = np.empty(0, np.int64) if drawn is None else drawn.ids
    found = fetch_existing(originals, ids)
    if drawn is None or not found:
        raise MismatchError(
            f"{theirs.uri} has none of the {len(ids):,} points of {ours.uri} that were drawn",
            remedy="Name the collection with the vectors that this one was built from.",
        )
    vectors = np.concatenate([batch.vectors for batch in found])
    rows = {point_id: row for row, point_id in enumerate(drawn.ids.tolist())}
    mine = drawn.vectors[[rows[i] for batch in found for i in batch.ids.tolist()]]
    off = distances(vectors, mine, cosine=ours.metric is Metric.COSINE)
    # Of unit vectors, 2 - 2 cos is the square of the distance.
    cosines = 1 - distances(vectors, mine, cosine=True).astype(np.float64) ** 2 / 2
    return ReconstructionError(
        originals=theirs.uri,
        compared=len(vectors),
        missing=len(ids) - len(vectors),
        mean=float(off.mean()),
        p95=float(np.quantile(off, 0.95)),
        maximum=float(off.max()),
        cosine_mean=float(cosines.mean()),
    )


# Not settings: how it is reached, what is told of it in words, and what is compared by itself.
_LEFT_OUT = {"uri", "notes", "settings", "provenance", "payload_fields"}

_EXPECTED = {
    "dimension": "the new encoder's",
    "encoder": "the new encoder",
    "made by vecmigrate": "the mark of a migration",
    "payload field": "the mark of kept anchors",
}


class Difference(BaseModel):
    """One setting that two collections have differently.

    Attributes
    ----------
    setting
        Its name; parts of a nested one are joined by dots.
    source, target
        Its values; None if there is none.
    expected
        Why a translation makes it differ; None if it does not.
    """

    setting: str
    source: JsonValue
    target: JsonValue
    expected: str | None = None


class Comparison(BaseModel):
    """The differences of two descriptions.

    Attributes
    ----------
    alike
        How many settings are the same.
    settings_compared
        False if the stores differ, whose settings have nothing in common.
    """

    source: str
    target: str
    differences: list[Difference]
    alike: int
    settings_compared: bool

    def unexpected(self) -> list[Difference]:
        """Return those that no translation makes."""
        return [difference for difference in self.differences if difference.expected is None]


def compare_descriptions(
    source: CollectionDescription, target: CollectionDescription
) -> Comparison:
    """Compare two descriptions setting by setting; of one store, all of its own settings too."""
    one_store = source.store == target.store
    ours, theirs = _flat(source, settings=one_store), _flat(target, settings=one_store)
    names = list(dict.fromkeys([*ours, *theirs]))
    differing = [
        name
        for name in names
        if canonical_setting(ours.get(name)) != canonical_setting(theirs.get(name))
    ]
    return Comparison(
        source=source.uri,
        target=target.uri,
        differences=[
            Difference(
                setting=name,
                source=ours.get(name),
                target=theirs.get(name),
                expected=_expected(name),
            )
            for name in differing
        ],
        alike=len(names) - len(differing),
        settings_compared=one_store,
    )


def _expected(name: str) -> str | None:
    if name.startswith("payload field "):
        return _EXPECTED["payload field"] if name.endswith(f" {ORIGIN_FIELD}") else None
    return _EXPECTED.get(name)


def _flat(description: CollectionDescription, *, settings: bool) -> dict[str, JsonValue]:
    flat = dict(_leaves(description.model_dump(mode="json", exclude=_LEFT_OUT)))
    made = description.provenance
    flat["encoder"] = str(made.encoder) if made and made.encoder else None
    flat["made by vecmigrate"] = f"{made.vecmigrate_version} from {made.source}" if made else None
    flat |= {f"payload field {name}": True for name in description.payload_fields}
    if settings:
        flat |= {f"settings.{name}": value for name, value in _leaves(description.settings)}
    return flat


def _leaves(values: Mapping[str, JsonValue], before: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name, value
