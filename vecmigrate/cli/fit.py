"""``vecmigrate fit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.anchors import AnchorCard, load_anchors
from vecmigrate.cli.output import Output
from vecmigrate.encoders import open_encoder
from vecmigrate.encoders.sentence_transformers import at_hand
from vecmigrate.errors import InputError, MissingDependencyError, UnreachableError, UsageError
from vecmigrate.io.atomic import require_absent
from vecmigrate.io.vector_files import open_vectors
from vecmigrate.points.batch import Vectors
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.translators import Direction, TranslatorCard, save_translator
from vecmigrate.translators.base import registered
from vecmigrate.translators.fit import (
    AUTO,
    AnchorTexts,
    CandidateScore,
    FitOptions,
    fair_scale,
    fit_translator,
)
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
            help="Read the points' texts too, by this encoder's token table; default: the new "
            "encoder's, if the anchors have texts and the hub's cache has the encoder.",
        ),
    ] = None,
    vectors_only: Annotated[
        bool, typer.Option("--vectors-only", help="Do not read the points' texts.")
    ] = False,
    *,
    options: FitOptions,
) -> None:
    """Fit a translator from the old encoder's space to the new one's."""
    require_absent(out_path)
    X, Y, card, known_texts = _read(anchors, source_vectors, target_vectors)
    old, new = (card.source_encoder, card.target_encoder) if card else (None, None)
    if options.direction is Direction.QUERY:
        X, Y, old, new = Y, X, new, old
    if options.metric is None and card is not None:
        options = options.model_copy(update={"metric": card.metric})
    read = None
    if texts is not None:
        if vectors_only:
            raise UsageError("--texts and --vectors-only exclude each other", remedy="Give one.")
        read = _with_table(texts, known_texts, options.direction)
    elif card is not None and known_texts is not None and not vectors_only:
        read = _at_hand(card.target_encoder, known_texts, options)
        if read is not None:
            out.say(f"texts are read by the token table of {card.target_encoder.name}")
    total = options.fits(with_texts=read is not None)
    with out.progress("comparing", total, unit="fit") as advance:
        translator, table = fit_translator(X, Y, options, texts=read, progress=advance)
    scale = None
    if card is not None and options.direction is Direction.DOCUMENT:
        inputs = translator.inputs(X, known_texts)
        scale = fair_scale(translator, inputs, Y, card.population, options.seed)
    written = save_translator(
        translator,
        out_path,
        direction=options.direction,
        seed=None if card is None else card.seed,
        source_encoder=old,
        target_encoder=new,
        mixing_scale=scale,
    )
    _show(out, out_path, written, table, with_texts=translator.text_dim_ > 0)


def _show(
    out: Output, path: Path, card: TranslatorCard, table: list[CandidateScore], *, with_texts: bool
) -> None:
    if table:
        rows = [[score.name, f"{score.held_out_recall:.3f}"] for score in table]
        out.table(["method", "recall@10 on held-out anchors"], rows)
    out.say(
        f"{card.method}, {card.source_dimension} to {card.target_dimension} "
        f"dimensions{', reading texts too' if with_texts else ''}, fitted on "
        f"{card.anchors:,} anchors, is in {path}"
    )
    if card.direction is Direction.QUERY:
        out.say(f"Next: load_translator('{path}').transform(query) before each search")
    else:
        out.say(f"Next: vecmigrate migrate SOURCE TARGET --translator {path}")
    out.result(
        {
            "translator": str(path),
            "candidates": [score.model_dump(mode="json") for score in table],
            **card.model_dump(mode="json"),
        }
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


def _at_hand(
    encoder: EncoderIdentity, texts: Sequence[str], options: FitOptions
) -> AnchorTexts | None:
    """Read texts by the new encoder's token table, if that and a method for it are there."""
    if options.direction is Direction.QUERY:
        return None
    if options.method != AUTO and not registered()[options.method].reads_texts:
        return None
    name = at_hand(encoder)
    if name is None:
        return None
    try:
        opened = open_encoder(name)
        if isinstance(opened, HasTokenTable) and opened.identity.same_as(encoder):
            return AnchorTexts(texts, opened.token_table())
    except (InputError, MissingDependencyError, UnreachableError):
        # Nobody asked for it: a model that is broken or has no table is not at hand.
        return None
    return None


def _read(
    anchors: Path | None, source_vectors: Path | None, target_vectors: Path | None
) -> tuple[Vectors, Vectors, AnchorCard | None, Sequence[str] | None]:
    """Return both vectors of anchors, and what an anchor file alone has: a card and texts."""
    if anchors is not None and source_vectors is None and target_vectors is None:
        loaded = load_anchors(anchors)
        return loaded.source_vectors, loaded.target_vectors, loaded.card, loaded.texts
    if anchors is None and source_vectors is not None and target_vectors is not None:
        return open_vectors(source_vectors), open_vectors(target_vectors), None, None
    raise UsageError(
        "fit takes either --anchors, or --source-vectors with --target-vectors",
        remedy="See vecmigrate fit --help.",
    )
