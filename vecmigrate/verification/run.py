"""Verifies a new collection against the old one: one streaming pass over each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vecmigrate.anchors import load_anchors
from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.addresses import followed_uri
from vecmigrate.connector.registry import open_source
from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.encoders import Meter, MeteredEncoder, open_encoder
from vecmigrate.errors import MismatchError, UsageError
from vecmigrate.migration.dead_letters import DeadLetters
from vecmigrate.migration.translate import Translation, convert
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.checksums import Tally
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.telemetry.events import Steps
from vecmigrate.translators import (
    Translator,
    TranslatorCard,
    load_translator,
    read_card,
    translator_sha256,
)
from vecmigrate.translators.base import TOLERANCE
from vecmigrate.translators.file import check_translator
from vecmigrate.verification.gate import fingerprint_of
from vecmigrate.verification.index import check_index, exact_answers, read_query_vectors
from vecmigrate.verification.options import Progress, VerifyOptions
from vecmigrate.verification.pending import Pending, pending_of
from vecmigrate.verification.points import check_counts, check_ids, check_payloads
from vecmigrate.verification.read import SourcePass, read_points, settled, target_pass, usable_again
from vecmigrate.verification.records import Check, Verification
from vecmigrate.verification.reencoding import Reencoding, check_made_by
from vecmigrate.verification.soundness import Soundness
from vecmigrate.verification.vectors import OtherVectors, Retranslation

_log = logging.getLogger(__name__)


def verify(
    source: str,
    target: str,
    translator: str | Path | None = None,
    options: VerifyOptions | None = None,
    *,
    progress: Progress | None = None,
    state: str | Path | None = None,
    **given: Any,
) -> Verification:
    """Compare ``target`` with ``source`` translated or re-embedded, and measure its index.

    Either collection is read once; if their points differ, once more to name those that do.
    Memory is that of some batches and of the sample, whatever the collections' size, beyond what
    a store needs to find points by id.

    Parameters
    ----------
    translator
        The file that the target was written with; None if an ``encoder`` made all of its vectors.
    options, given
        :class:`VerifyOptions`, or fields of it by name.
    progress
        Called with the number of points just read, of both collections.
    state
        The state file. By the ledger next to it points are known that the source changed since
        the target was brought in step, and those that others wrote at a shared target: they are
        counted, and left out of the other checks.

    Raises
    ------
    MismatchError
        If translator, anchors or queries are not for these collections.
    BadVectorError
        If a vector of the source is unusable and ``on_bad_vector`` is ``fail``.
    InputError, UsageError, UnreachableError
        From the stores.
    """
    asked = VerifyOptions.given(options, given)
    begun, steps = time.perf_counter(), Steps(_log)
    if translator is None and asked.encoder is None:
        raise UsageError(
            "neither a translator nor an encoder is given",
            remedy="Name with --translator or --encoder what the target was written with.",
        )
    card = None if translator is None else read_card(translator)
    fitted = None if translator is None else load_translator(translator)
    encoder = None if asked.encoder is None else _metered(asked.encoder, asked)
    with (
        open_source(source) as old,
        open_source(target) as new,
        pending_of(old, new, None if state is None else Path(state)) as pending,
    ):
        new.describe().require_finished()
        if fitted is not None:
            check_translator(old.describe(), fitted, card)
            _check_is_translated(new.describe())
            _check_dimension(new.describe(), fitted)
        if encoder is not None:
            check_made_by(new.describe(), encoder, alone=fitted is None)
        _check_multivectors(old.describe(), new.describe(), asked)
        prints = old.fingerprint(), new.fingerprint()
        compared = _Comparison(old, new, fitted, card, encoder, asked, pending)
        compared.read(progress or (lambda count: None), steps)
        # Opened anew: an open source may go on to show what it was when it was opened.
        prints_after = fingerprint_of(source), fingerprint_of(target)
        if pending is not None:
            # Each point that others changed is known.
            prints_after = prints[0], prints_after[1]
        checks = [*compared.checks(), _check_unchanged(prints, prints_after)]
    steps.ended("compare")
    return Verification(
        vecmigrate_version=version("vecmigrate"),
        source=followed_uri(source),
        target=followed_uri(target),
        source_fingerprint=prints[0],
        target_fingerprint=prints[1],
        source_contents=compared.ours.everything.digest(),
        target_contents=compared.theirs.digest(),
        translator_sha256=None if translator is None else translator_sha256(translator),
        source_encoder=card.source_encoder if card else None,
        target_encoder=card.target_encoder if card else encoder.identity if encoder else None,
        full=asked.full,
        checks=tuple(checks),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - begun,
    )


class _Comparison:
    """Two open collections, what is expected of the new one, and what was found reading them.

    Attributes
    ----------
    ours, theirs
        What was read of the old collection and of the new one.
    sound, vectors, reencoding, others
        Look at the new collection's vectors; compare them with the old ones, translated; or with
        what the encoder makes of the texts; compare what points have beside them.
    """

    def __init__(
        self,
        old: Source,
        new: Source,
        fitted: Translator | None,
        card: TranslatorCard | None,
        encoder: MeteredEncoder | None,
        asked: VerifyOptions,
        pending: Pending | None,
    ) -> None:
        described = old.describe(), new.describe()
        keeper = None
        if asked.keep_anchors is not None and card is not None:
            keeper = AnchorKeeper(load_anchors(asked.keep_anchors), card, described[0].text_field)
        self._old, self._new, self._asked = old, new, asked
        unit = fitted.normalize_output_ if fitted else encoder and encoder.identity.normalized
        self._unit = bool(unit) and not described[1].lossy
        self._queries = asked.queries and read_query_vectors(asked.queries, described[1])
        self._letters = _letters(asked.dead_letters, described[1])
        translation = None if fitted is None else Translation(fitted, described[0].text_field)

        def expect(batches: Iterable[VectorBatch]) -> Iterator[VectorBatch]:
            assert translation is not None
            done = convert(batches, translation)
            return keeper.apply(done) if keeper else done

        self._pending = pending
        self.ours = SourcePass(letters=self._letters, pending=pending)
        self.theirs, self.sound = Tally(), Soundness()
        self.translated = translation is not None
        self.reencoding: Reencoding | None = None
        if encoder is not None:
            self.reencoding = Reencoding(new, encoder, described[0].text_field, asked.encoded)
        self.vectors = Retranslation(
            new, expect if self.translated else None, keeps_anchors=keeper is not None,
            least=TOLERANCE if fitted is None else fitted.tolerance,
            native=self.reencoding.take if self.reencoding else lambda ours, theirs: None,
        )  # fmt: skip
        self.others = OtherVectors(*described)

    def read(self, progress: Progress, steps: Steps) -> None:
        """Read either collection once."""
        asked, new = self._asked, self._new
        if self._pending is not None and self._pending.shared:
            self._pending.note_native(self._old, new, asked.batch_size)
        self.ours.run(self._old, self.vectors, self.others, asked, progress)
        steps.ended("read source", points=self.ours.tally.count)
        self._probes = self._queries or self.ours.probes
        points = target_pass(new, self.theirs, self._pending, asked.batch_size, progress)
        self._truth = exact_answers(self.sound.usable(points), self._probes, new.describe().metric)
        steps.ended("read target", points=self.theirs.count)

    def checks(self) -> list[Check]:
        """Return what every check found; points that differ are looked up once more."""
        ours, theirs, new = self.ours.tally, self.theirs, self._new
        refused = len(self._letters.ids) if self._letters else 0
        again = (
            partial(usable_again, self._old, self._asked, self._letters, self._pending),
            lambda payloads: settled(
                self._pending, read_points(new, self._asked.batch_size, payloads=payloads)
            ),
        )
        pending: list[Check] = []
        if self._pending is not None:
            pending.append(self._pending.check(self._asked.max_pending, skips=self._asked.skips))
            if self._pending.shared:
                pending.append(self._pending.check_native())
        return [
            *pending,
            check_counts(ours, theirs, self._left_out(), refused),
            check_ids(ours, theirs, *again),
            check_payloads(
                ours,
                theirs,
                *again,
                ulps=max(self._old.payload_ulps(), new.payload_ulps()),
                fetch=partial(fetch_there, new),
            ),
            *self._vectors(),
            *self.others.checks(),
            *self.sound.checks(unit=self._unit),
            check_index(new, self._probes, self._truth, self._asked.min_index_recall),
        ]

    def _left_out(self) -> int:
        return len(self.ours.skipped) + (self._pending.left_out if self._pending else 0)

    def _vectors(self) -> Iterator[Check]:
        if self.translated:
            yield self.vectors.check(full=self._asked.full)
        if self.reencoding is not None and (self.vectors.native or not self.translated):
            yield self.reencoding.check("native vectors" if self.translated else "vectors")


def _check_is_translated(target: CollectionDescription) -> None:
    made = target.provenance
    if made is not None and made.translator_sha256 is None:
        raise MismatchError(
            f"no translator made vectors of {target.uri}, but an encoder all of them",
            remedy="Give --encoder, and no --translator.",
        )


def _metered(encoder: str, asked: VerifyOptions) -> MeteredEncoder:
    meter = Meter(None, asked.price_per_million_tokens, counts_reused=False)
    return MeteredEncoder(open_encoder(encoder), meter)


def _check_dimension(target: CollectionDescription, fitted: Translator) -> None:
    if target.dimension != fitted.target_dim_:
        raise MismatchError(
            f"{target.uri} has {target.dimension} dimensions and the translator leads to "
            f"{fitted.target_dim_}",
            remedy="Give the translator that the collection was written with.",
        )


def _check_multivectors(
    source: CollectionDescription, target: CollectionDescription, asked: VerifyOptions
) -> None:
    """Raise if the points of one alone have several vectors each, or if queries have one."""
    if source.multivector != target.multivector:
        several, one = (source, target) if source.multivector else (target, source)
        raise MismatchError(
            f"the points of {several.uri} have several vectors each, and those of {one.uri} one",
            remedy="Name the vector that was migrated by ?vector=NAME.",
        )
    if target.multivector and asked.queries is not None:
        raise UsageError(
            f"the points of {target.uri} have several vectors each, and so have queries",
            remedy="Verify it without --queries: its index is not searched.",
        )


def _letters(path: Path | None, target: CollectionDescription) -> DeadLetters | None:
    if path is None:
        return None
    if target.provenance is None:
        raise MismatchError(
            f"{target.uri} does not say which run wrote it, so no dead letter is known to be its",
            remedy="Verify it without --dead-letters.",
        )
    return DeadLetters(path, target.provenance.run())


def _check_unchanged(before: tuple[str, str], after: tuple[str, str]) -> Check:
    changed = [
        name
        for name, then, now in zip(("source", "target"), before, after, strict=True)
        if then != now
    ]
    summary = "neither collection changed meanwhile"
    if changed:
        summary = (
            f"the {' and the '.join(changed)} changed while being verified: stop what writes "
            "there, bring the target up to date and verify again"
        )
    return Check.of("unchanged", not changed, summary)
