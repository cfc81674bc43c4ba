"""How a migration makes its vectors: by a translator, by an encoder, or by both."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from vecmigrate.anchors import AnchorSet
from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.source import Source
from vecmigrate.encoders import Meter, MeteredEncoder
from vecmigrate.encoders.base import keeps_limits
from vecmigrate.encoders.queries import query_vectors
from vecmigrate.errors import InputError, UsageError
from vecmigrate.migration.bought import (
    KnownVectors,
    Purchases,
    bought_path,
    buying,
    named_for_reuse,
    reusable,
)
from vecmigrate.migration.choice import BoughtBefore, Choice, Worth, choose
from vecmigrate.migration.options import MigrateOptions
from vecmigrate.migration.reembed import (
    EmbeddingWorker,
    OnMissingText,
    Reembedding,
    check_encoder,
    check_texts,
    embeddable,
)
from vecmigrate.migration.translate import Converter, Translation
from vecmigrate.points.batch import PointId
from vecmigrate.points.collection import CollectionDescription, EncoderIdentity
from vecmigrate.points.screening import Absent, OnBadVector, Skipped, screen
from vecmigrate.runtime.options import Callbacks
from vecmigrate.runtime.threads import prefetch
from vecmigrate.state import open_state
from vecmigrate.state.files import FileLog
from vecmigrate.state.migrations import EncodingInputs, MigrationRecord
from vecmigrate.translators import (
    Translator,
    TranslatorCard,
    load_translator,
    read_card,
    translator_sha256,
)
from vecmigrate.translators.file import check_translator


@dataclass(frozen=True, slots=True)
class Map:
    """A translator, with what its file says; of one that is no file, nothing.

    Attributes
    ----------
    sha256
        Of the file.
    """

    translator: Translator
    card: TranslatorCard | None = None
    sha256: str | None = None
    file: Path | None = None

    @classmethod
    def read(cls, given: Translator | str | Path) -> Map:
        """Load a translator file, or take a translator as it is; errors as `load_translator`."""
        if isinstance(given, Translator):
            return cls(given)
        return cls(load_translator(given), read_card(given), translator_sha256(given), Path(given))


@dataclass(frozen=True, slots=True)
class Route:
    """What makes the vectors; at least one of the two is there."""

    made_by: Map | None
    encoder: MeteredEncoder | None

    @classmethod
    def open(
        cls,
        translator: Translator | str | Path | None,
        options: MigrateOptions,
        meter: Meter | None,
    ) -> Route:
        """Load the translator and open the encoder.

        Raises
        ------
        UsageError
            If there is neither, or nothing says which one is for which points.
        VecmigrateError
            As :func:`load_translator` and :func:`open_encoder`.
        """
        translates = options.on_missing_text is OnMissingText.TRANSLATE
        if translator is None and options.encoder is None:
            raise UsageError(
                "neither a translator nor an encoder is given",
                remedy="Name a translator file with --translator, or the new encoder with "
                "--encoder.",
            )
        if translates and translator is None:
            raise UsageError(
                "--on-missing-text translate needs a translator",
                remedy="Name its file with --translator, or leave such points out with skip.",
            )
        share = options.native_share
        mixed = share is not None
        if share is not None and share.recall is not None:
            raise UsageError(
                f"which share reaches {share} is told by a dry run's report",
                remedy="Give a share, as 20%; the command line reads it from the report.",
            )
        if mixed and translator is None:
            raise UsageError(
                "--reembed needs a translator for the other points",
                remedy="Name its file with --translator, or leave --reembed out to embed all.",
            )
        both = translator is not None and options.encoder is not None
        if both and not (translates or mixed):
            raise UsageError(
                "a translator and an encoder are given, and nothing says what is translated",
                remedy="Say how many points are embedded with --reembed, or leave one of the two "
                "out.",
            )
        made_by = None if translator is None else Map.read(translator)
        return cls(made_by, options.open_encoder(meter or options.meter()))

    @property
    def made_for(self) -> EncoderIdentity | None:
        """The encoder in whose space the target is, if that is known."""
        if self.encoder is not None:
            return self.encoder.identity
        card = self.made_by.card if self.made_by else None
        return card.target_encoder if card else None

    def check(self, source: CollectionDescription, options: MigrateOptions) -> None:
        """Raise unless this makes vectors of a collection's points.

        Raises
        ------
        MismatchError
            If translator, encoder and collection do not belong together.
        InputError
            If nothing tells where the texts are.
        """
        if self.made_by is not None:
            made_by = self.made_by
            check_translator(source, made_by.translator, made_by.card, options.source_encoder)
        if self.encoder is not None:
            check_texts(source, self.encoder)
        if self.made_by is not None and self.encoder is not None:
            made_by = self.made_by
            check_encoder(self.encoder.identity, made_by.card, made_by.translator.target_dim_)

    def inputs(self, options: MigrateOptions) -> EncodingInputs | None:
        """Return what a job of this is begun with."""
        if self.encoder is None:
            return None
        share = options.native_share
        if share is None:
            return EncodingInputs(
                encoder=self.encoder.identity, on_missing_text=options.on_missing_text
            )
        return EncodingInputs(
            encoder=self.encoder.identity,
            on_missing_text=OnMissingText.TRANSLATE,
            share=str(share),
            order=options.order,
            queries=None if options.queries is None else _file_sha256(options.queries),
        )

    def buying(
        self,
        job: MigrationRecord,
        anchors: AnchorSet | None,
        options: MigrateOptions,
        state: Path | None,
    ) -> AbstractContextManager[Purchases | None]:
        """Return a context with the encoder, which buys nothing that was bought before."""
        if self.encoder is None:
            return nullcontext()
        places: list[Path] = []
        path, identity = None, self.encoder.identity
        if state is not None:
            path = bought_path(state, job.key, identity)
            with closing(open_state(state)) as records:
                places += FileLog(records).of(job.source)
                FileLog(records).note(job.source, path)
        if self.made_by is not None and self.made_by.file is not None:
            places.append(self.made_by.file)
        found = [
            *named_for_reuse(options.reuse, identity),
            *reusable(dict.fromkeys(places), identity),
        ]
        if anchors is not None and anchors.card.target_encoder.same_as(identity):
            found.append(KnownVectors.of_anchors(anchors))
        return buying(self.encoder, path, found)

    def converter(
        self,
        purchases: Purchases | None,
        source: Source,
        keeper: AnchorKeeper | None,
        anchors: AnchorSet | None,
        options: MigrateOptions,
        skipped: Skipped,
        refused: list[PointId],
        job: MigrationRecord,
        callbacks: Callbacks,
    ) -> Converter:
        """Return what gives points their vectors.

        Parameters
        ----------
        purchases
            As :meth:`buying` yields them.
        skipped
            Gathers the points left out.
        refused
            Gathers the points whose texts the encoder did not take.
        """
        field, translation = source.describe().text_field, None
        if self.made_by is not None:
            translation = Translation(self.made_by.translator, field)
        if purchases is None:
            assert translation is not None
            return translation
        on_missing, choice = options.on_missing_text, None
        if options.native_share is not None:
            assert translation is not None
            assert keeper is not None
            assert anchors is not None
            worth = Worth(options.order, translation, anchors.source_vectors)
            choice = _choice(purchases, source, worth, keeper, options, job, callbacks)
            on_missing = OnMissingText.TRANSLATE
        worker = None
        if isinstance(options.encoder, str) and not keeps_limits(purchases.encoder.encoder):
            worker = EmbeddingWorker(
                options.encoder, purchases.encoder.identity, field, on_missing, translation, choice,
                purchases.found,
            )  # fmt: skip
        return Reembedding(
            purchases.encoder, field, on_missing, skipped,
            callbacks.progress, callbacks.stop, translation, choice, worker, refused,
        )  # fmt: skip


def _choice(
    purchases: Purchases,
    source: Source,
    worth: Worth,
    keeper: AnchorKeeper,
    options: MigrateOptions,
    job: MigrationRecord,
    callbacks: Callbacks,
) -> Choice:
    """Return which points are embedded: as an earlier run has chosen, if there was one."""
    share, encoder, kept = options.native_share, purchases.encoder, purchases.store
    assert share is not None
    described = source.describe()
    bought = BoughtBefore(purchases.found, described.text_field, encoder.identity.dimension)
    if job.token is not None and (told := kept.get(_CHOICE)) is not None:
        return Choice.restored(told, worth, keeper, bought)
    queries = None
    if options.queries is not None:
        queries = query_vectors(options.queries, encoder, described.uri)
    callbacks.announce(f"choosing the points to embed, {share} of {described.count:,}")
    usable = screen(
        source.batches(options.batch_size), described.uri, OnBadVector.SKIP, Skipped(),
        absent=Absent.PASSED_OVER,
    )  # fmt: skip
    choice = choose(
        prefetch(usable), share, worth, keeper, bought,
        lambda batch: embeddable(encoder, batch, described.text_field), queries, described.metric,
    )  # fmt: skip
    kept.put(_CHOICE, choice.told())
    return choice


_CHOICE = "choice"


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}", remedy="Name a file of queries."
        ) from error
