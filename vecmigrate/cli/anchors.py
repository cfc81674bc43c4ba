"""``vecmigrate anchors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vecmigrate.anchors import AnchorOptions, draw_anchors
from vecmigrate.cli.options import SourceArgument, StateOption
from vecmigrate.cli.output import Output
from vecmigrate.connector.registry import open_source
from vecmigrate.encoders import open_encoder
from vecmigrate.encoders.options import ENCODER_HELP
from vecmigrate.io.vector_files import open_vectors
from vecmigrate.state import state_path
from vecmigrate.state.files import note_files

EXAMPLES = """
**Examples**

    vecmigrate anchors faiss:old.faiss --encoder all-MiniLM-L6-v2 \\
        --size 2000 --out anchors.parquet
    vecmigrate anchors qdrant:./storage/articles \\
        --source-encoder all-mpnet-base-v2 \\
        --encoder "openai:text-embedding-3-small?dimensions=512" \\
        --size 4000 --out anchors.parquet
    vecmigrate anchors faiss:old.faiss \\
        --encoder "vectors:new.parquet?name=my-model" --size 1000 \\
        --out anchors.parquet

Interrupted, the same command continues where it stopped.
"""


def run(
    out: Output,
    source: SourceArgument,
    encoder: Annotated[str, typer.Option(help=f"New encoder: {ENCODER_HELP}")],
    out_path: Annotated[Path, typer.Option("--out", help="Anchor file to write.")],
    options: AnchorOptions,
    query_log: Annotated[
        Path | None, typer.Option(help="(n, d) .npy of logged queries under the old encoder.")
    ] = None,
    state: StateOption = None,
) -> None:
    """Choose a sample in one pass and re-embed its texts with the new encoder."""
    # What is bought is found again where these points are embedded, or forgotten.
    note_files(state_path(state), source, out_path)
    with open_source(source) as opened:
        description = opened.describe()
        model = open_encoder(encoder)
        queries = None
        if query_log is not None:
            queries = np.ascontiguousarray(open_vectors(query_log), dtype=np.float32)
        with (
            out.progress(
                "reading", description.count, bytes_each=4 * description.dimension
            ) as reading,
            out.progress("encoding", options.size, unit="text") as encoding,
        ):
            anchors = draw_anchors(
                opened,
                model,
                out_path,
                options,
                queries=queries,
                reading=reading,
                encoding=encoding,
            )
        out.say(
            f"{len(anchors):,} anchors of {anchors.card.population:,} points, re-embedded with "
            f"{model.identity}, are in {out_path}"
        )
        out.say(f"Next: vecmigrate fit --anchors {out_path} --out translator.safetensors")
        out.result(
            {"anchors": str(out_path), "size": len(anchors), **anchors.card.model_dump(mode="json")}
        )
