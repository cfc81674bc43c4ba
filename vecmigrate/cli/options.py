"""Options that several commands share, said once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from vecmigrate.state import STATE_VARIABLE

SOURCE_HELP = "Collection to read: faiss:PATH, qdrant:DIR/NAME or qdrant://HOST/NAME."

JsonFlag: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result, or the error, as one JSON object.")
]
QuietFlag: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")
]
NameArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="What readers open: an alias in Qdrant, a path for FAISS; a URI."
    ),
]
StateOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar=STATE_VARIABLE,
        help="File of jobs, verifications and cutovers; default: .vecmigrate/state.sqlite here.",
    ),
]


def state_again(state: Path | None) -> str:
    """Return the option to add to a following command; "" if it finds the same file itself."""
    named_here = state is not None and str(state) != os.environ.get(STATE_VARIABLE)
    return f" --state '{state}'" if named_here else ""


JobArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="JOB", help="A job's file, TOML: docs/reference/job.md.")
]
SourceArgument: TypeAlias = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
TranslatedArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="TARGET", help="Translated collection, or a name of it.")
]
PriceOption: TypeAlias = Annotated[
    float | None, typer.Option(min=0, help="Price of a million tokens, in any currency.")
]
TranslatorOption: TypeAlias = Annotated[
    Path, typer.Option("--translator", help="Translator file that `vecmigrate fit` wrote.")
]
OptionalTranslator: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--translator",
        help="Translator file that `vecmigrate fit` wrote; not needed if --encoder makes all "
        "vectors.",
    ),
]


def made_by_again(translator: Path | None, encoder: object) -> str:
    """Return the options that name again what makes a target's vectors."""
    return "".join(
        f" --{name} '{value}'"
        for name, value in (("translator", translator), ("encoder", encoder))
        if value is not None
    )
