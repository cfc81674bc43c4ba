"""``vecmigrate translate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.output import Output
from vecmigrate.io.vector_files import open_vectors
from vecmigrate.translators import load_translator
from vecmigrate.translators.arrays import translate_file

EXAMPLES = """
**Examples**

    vecmigrate translate translator.safetensors old.npy new.npy
    vecmigrate translate translator.safetensors old.npy new.npy \\
        --variance variance.npy --json
"""


def run(
    out: Output,
    translator: Annotated[
        Path,
        typer.Argument(metavar="TRANSLATOR", help="Translator file that `vecmigrate fit` wrote."),
    ],
    source: Annotated[Path, typer.Argument(metavar="IN.npy", help="(n, d) floats of any size.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.npy", help="float32 file to write.")],
    variance: Annotated[
        Path | None, typer.Option(help="Also write each vector's predictive variance here (.npy).")
    ] = None,
) -> None:
    """Translate a plain array of vectors, memory-mapped."""
    loaded = load_translator(translator)
    total = len(open_vectors(source))
    with out.progress("translating", total, bytes_each=4 * loaded.target_dim_) as advance:
        shape = translate_file(loaded, source, target, variance=variance, progress=advance)
    out.say(f"{shape[0]:,} vectors of {shape[1]} dimensions are in {target}")
    out.say("Next: load them into your store, or let vecmigrate migrate do it for FAISS, Qdrant.")
    out.result({"target": str(target), "count": shape[0], "dimension": shape[1]})
