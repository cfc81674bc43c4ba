"""How a migration makes its vectors: by a translator, by an encoder, or by both."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from vecmigrate.anchors import AnchorSet
from vecmigrate.encoders import Meter, MeteredEncoder
from vecmigrate.errors import UsageError
from vecmigrate.migration.bought import AnchorVectors, bought_path, buying, reusable
from vecmigrate.migration.options import MigrateOptions
from vecmigrate.migration.reembed import (
    OnMissingText,
    Reembedding,
    check_encoder,
    check_texts,
)
from vecmigrate.migration.translate import Converter, Translation
from vecmigrate.points.collection import CollectionDescription, EncoderIdentity
from vecmigrate.points.screening import Skipped
from vecmigrate.runtime.options import Callbacks
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
        if translator is not None and options.encoder is not None and not translates:
            raise UsageError(
                "a translator and an encoder are given, and nothing says what is translated",
                remedy="Leave one of them out, or add --on-missing-text translate.",
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
        return EncodingInputs(
            encoder=self.encoder.identity, on_missing_text=options.on_missing_text
        )

    def buying(
        self,
        job: MigrationRecord,
        anchors: AnchorSet | None,
        options: MigrateOptions,
        state: Path | None,
    ) -> AbstractContextManager[MeteredEncoder | None]:
        """Return a context with the encoder, which buys nothing that was bought before."""
        if self.encoder is None:
            return nullcontext()
        places, path, identity = [*options.reuse], None, self.encoder.identity
        if state is not None:
            path = bought_path(state, job.key, identity)
            with closing(open_state(state)) as records:
                places += FileLog(records).of(job.source)
        if self.made_by is not None and self.made_by.file is not None:
            places.append(self.made_by.file)
        found = list(reusable(dict.fromkeys(places), identity))
        if anchors is not None and anchors.card.target_encoder.same_as(identity):
            found.append(AnchorVectors(anchors))
        return buying(self.encoder, path, found)

    def converter(
        self,
        encoder: MeteredEncoder | None,
        source: CollectionDescription,
        options: MigrateOptions,
        skipped: Skipped,
        callbacks: Callbacks,
    ) -> Converter:
        """Return what gives points their vectors.

        Parameters
        ----------
        encoder
            As :meth:`buying` yields it.
        skipped
            Gathers the points left out.
        """
        translation = None
        if self.made_by is not None:
            translation = Translation(self.made_by.translator, source.text_field)
        if encoder is None:
            assert translation is not None
            return translation
        return Reembedding(
            encoder, source.text_field, options.on_missing_text, skipped,
            callbacks.progress, callbacks.stop, translation,
        )  # fmt: skip
