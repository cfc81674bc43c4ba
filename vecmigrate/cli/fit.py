"""``vecmigrate fit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.anchors import AnchorCard, load_anchors
from vecmigrate.cli.options import JsonFlag, QuietFlag, SeedOption
from vecmigrate.cli.output import Output
from vecmigrate.encoders import open_encoder
from vecmigrate.errors import InputError, TargetExistsError, UsageError
from vecmigrate.points.batch import Vectors
from vecmigrate.points.collection import Metric
from vecmigrate.translators import Direction, save_translator
from vecmigrate.translators.arrays import open_vectors
from vecmigrate.translators.fit import AnchorTexts, Method, candidates, fair_scale, fit_translator
from vecmigrate.translators.token_features import HasTokenTable

EXAMPLES = """
**Examples**

    vecmigrate fit --anchors anchors.parquet --out translator.safetensors
    vecmigrate fit --anchors anchors.parquet --texts all-MiniLM-L6-v2 --out translator.safetensors
    vecmigrate fit --anchors anchors.parquet --out translator.safetensors --method procrustes
    vecmigrate fit --anchors anchors.parquet --out bridge.safetensors --direction query
    vecmigrate fit --source-vectors old.npy --target-vectors new.npy --out translator.safetensors
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("fit", epilog=EXAMPLES)(run)


def run(
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
    method: Annotated[
        Method, typer.Option(help="auto chooses by recall on held-out anchors.")
    ] = Method.AUTO,
    seed: SeedOption = 0,
    direction: Annotated[
        Direction,
        typer.Option(help="query maps new queries into the old collection instead: a bridge."),
    ] = Direction.DOCUMENT,
    texts: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER",
            help="Read the points' texts too, by this encoder's token table: best the new one's.",
        ),
    ] = None,
    metric: Annotated[
        Metric | None,
        typer.Option(help="How the collection compares vectors; told by --anchors, else cosine."),
    ] = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Fit a translator from the old encoder's space to the new one's."""
    with Output(as_json=json_, quiet=quiet) as out:
        if out_path.exists():
            raise TargetExistsError(f"{out_path} exists", remedy="Name another file, or remove it.")
        X, Y, card, stored = _read(anchors, source_vectors, target_vectors)
        source_encoder = card.source_encoder if card else None
        target_encoder = card.target_encoder if card else None
        if direction is Direction.QUERY:
            X, Y = Y, X
            source_encoder, target_encoder = target_encoder, source_encoder
        read = None if texts is None else _with_table(texts, stored, direction)
        total = len(candidates(int(read is not None))) if method is Method.AUTO else 1
        with out.progress("comparing", total, unit="fit") as advance:
            translator, table = fit_translator(
                X,
                Y,
                method,
                direction=direction,
                seed=seed,
                metric=metric or (card.metric if card else Metric.COSINE),
                texts=read,
                progress=advance,
            )
        written = save_translator(
            translator,
            out_path,
            direction=direction,
            seed=card.seed if card else None,
            source_encoder=source_encoder,
            target_encoder=target_encoder,
            mixing_scale=fair_scale(
                translator, translator.inputs(X, stored), Y, card.population, seed
            )
            if card and direction is Direction.DOCUMENT
            else None,
        )
        if table:
            rows = [[score.name, f"{score.held_out_recall:.3f}"] for score in table]
            out.table(["method", "recall@10 on held-out anchors"], rows)
        out.say(
            f"{written.method}, {written.source_dimension} to {written.target_dimension} "
            f"dimensions{', reading texts too' if translator.text_dim_ else ''}, fitted on "
            f"{written.anchors:,} anchors, is in {out_path}"
        )
        if direction is Direction.QUERY:
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


def _read(
    anchors: Path | None, source_vectors: Path | None, target_vectors: Path | None
) -> tuple[Vectors, Vectors, AnchorCard | None, Sequence[str] | None]:
    if anchors is not None and source_vectors is None and target_vectors is None:
        loaded = load_anchors(anchors)
        return loaded.source_vectors, loaded.target_vectors, loaded.card, loaded.texts
    if anchors is None and source_vectors is not None and target_vectors is not None:
        return open_vectors(source_vectors), open_vectors(target_vectors), None, None
    raise UsageError(
        "fit takes either --anchors, or --source-vectors with --target-vectors",
        remedy="See vecmigrate fit --help.",
    )
