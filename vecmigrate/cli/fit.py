"""``vecmigrate fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.anchors import AnchorCard, load_anchors
from vecmigrate.cli.output import Output
from vecmigrate.encoders import open_encoder
from vecmigrate.errors import InputError, UsageError
from vecmigrate.io.atomic import require_absent
from vecmigrate.io.vector_files import open_vectors
from vecmigrate.points.batch import Vectors
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.translators import Direction, Translator, TranslatorCard, save_translator
from vecmigrate.translators.fit import AnchorTexts, FitOptions, fair_scale, fit_translator
from vecmigrate.translators.token_features import HasTokenTable

EXAMPLES = """
**Examples**

    vecmigrate fit --anchors anchors.parquet \\
        --out translator.safetensors
    vecmigrate fit --anchors anchors.parquet --texts all-MiniLM-L6-v2 \\
        --out translator.safetensors
    vecmigrate fit --anchors anchors.parquet \\
        --out translator.safetensors --method procrustes
    vecmigrate fit --anchors anchors.parquet --out bridge.safetensors \\
        --direction query
    vecmigrate fit --source-vectors old.npy --target-vectors new.npy \\
        --out translator.safetensors
"""


@dataclass(frozen=True)
class _Pairs:
    """Anchors, out of an anchor file or of two arrays, which have neither card nor texts."""

    X: Vectors
    Y: Vectors
    card: AnchorCard | None = None
    texts: Sequence[str] | None = None
    encoders: tuple[EncoderIdentity | None, EncoderIdentity | None] = (None, None)

    def swapped(self) -> _Pairs:
        """Return them for a map from the new space into the old one."""
        return replace(self, X=self.Y, Y=self.X, encoders=self.encoders[::-1])


def run(
    out: Output,
    out_path: Annotated[Path, typer.Option("--out", help="Translator file to write.")],
    anchors: Annotated[
        Path | None, typer.Option(help="Anchor file that `vecmigrate anchors` wrote.")
    ] = None,
    source_vectors: Annotated[
        Path | None, typer.Option(help="Old vectors: an (n, d) .npy file.")
    ] = None,
    target_vectors: Annotated[
        Path | None, typer.Option(help="New vectors of the same texts, row by row.")
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER",
            help="Read the points' texts too, by this encoder's token table: best the new one's.",
        ),
    ] = None,
    *,
    options: FitOptions,
) -> None:
    """Fit a translator from the old encoder's space to the new one's."""
    require_absent(out_path)
    pairs = _read(anchors, source_vectors, target_vectors)
    if options.direction is Direction.QUERY:
        pairs = pairs.swapped()
    if options.metric is None and pairs.card is not None:
        options = options.model_copy(update={"metric": pairs.card.metric})
    read = None if texts is None else _with_table(texts, pairs.texts, options.direction)
    total = options.fits(with_texts=read is not None)
    with out.progress("comparing", total, unit="fit") as advance:
        translator, table = fit_translator(pairs.X, pairs.Y, options, texts=read, progress=advance)
    written = _save(translator, out_path, pairs, options)
    if table:
        rows = [[score.name, f"{score.held_out_recall:.3f}"] for score in table]
        out.table(["method", "recall@10 on held-out anchors"], rows)
    out.say(
        f"{written.method}, {written.source_dimension} to {written.target_dimension} "
        f"dimensions{', reading texts too' if translator.text_dim_ else ''}, fitted on "
        f"{written.anchors:,} anchors, is in {out_path}"
    )
    if options.direction is Direction.QUERY:
        out.say(f"Next: load_translator('{out_path}').transform(query) before each search")
    else:
        out.say(f"Next: vecmigrate migrate SOURCE TARGET --translator {out_path}")
    out.result(
        {
            "translator": str(out_path),
            "candidates": [score.model_dump(mode="json") for score in table],
            **written.model_dump(mode="json"),
        }
    )


def _save(translator: Translator, path: Path, pairs: _Pairs, options: FitOptions) -> TranslatorCard:
    scale = None
    if pairs.card is not None and options.direction is Direction.DOCUMENT:
        inputs = translator.inputs(pairs.X, pairs.texts)
        scale = fair_scale(translator, inputs, pairs.Y, pairs.card.population, options.seed)
    return save_translator(
        translator,
        path,
        direction=options.direction,
        seed=None if pairs.card is None else pairs.card.seed,
        source_encoder=pairs.encoders[0],
        target_encoder=pairs.encoders[1],
        mixing_scale=scale,
    )


def _with_table(encoder: str, texts: Sequence[str] | None, direction: Direction) -> AnchorTexts:
    if direction is Direction.QUERY:
        raise UsageError(
            "a translator of queries reads no texts", remedy="Leave out --texts or --direction."
        )
    if texts is None:
        raise InputError(
            "there are no texts to read: --source-vectors and older anchor files hold none",
            remedy="Draw anchors from a source with texts.",
        )
    opened = open_encoder(encoder)
    if not isinstance(opened, HasTokenTable):
        raise UsageError(
            f"the encoder {encoder} has no token table",
            remedy="Name a sentence-transformers model with --texts.",
        )
    return AnchorTexts(texts, opened.token_table())


def _read(anchors: Path | None, source_vectors: Path | None, target_vectors: Path | None) -> _Pairs:
    if anchors is not None and source_vectors is None and target_vectors is None:
        loaded = load_anchors(anchors)
        card = loaded.card
        encoders = (card.source_encoder, card.target_encoder)
        return _Pairs(loaded.source_vectors, loaded.target_vectors, card, loaded.texts, encoders)
    if anchors is None and source_vectors is not None and target_vectors is not None:
        return _Pairs(open_vectors(source_vectors), open_vectors(target_vectors))
    raise UsageError(
        "fit takes either --anchors, or --source-vectors with --target-vectors",
        remedy="See vecmigrate fit --help.",
    )
