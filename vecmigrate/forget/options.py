"""What is to be forgotten where, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vecmigrate.points.batch import PointId
from vecmigrate.runtime.options import OnLine, Options


class ForgetOptions(Options):
    """Options of :func:`forget`."""

    targets: Annotated[list[str], OnLine("--target", metavar="TARGET")] = Field(
        default=[],
        description="Collection that `vecmigrate migrate` wrote, or a name that leads there; may "
        "be repeated. Default: all that the state file knows, if they have one source.",
    )
    folders: Annotated[list[Path], OnLine("--in", metavar="PATH")] = Field(
        default=[],
        description="Folder or file to search for anchors, dry runs, dead letters and logs; may be "
        "repeated. Default: this folder. What migrate and sync were given is searched anyway.",
    )
    still_at_source: bool = Field(
        default=False,
        description="Points that the source still has are removed too. The next sync brings them "
        "back. Sources that do not answer are passed over. Default: refuse, and name them.",
    )
    dry_run: bool = Field(default=False, description="Show what would be removed; change nothing.")


class Removed(BaseModel):
    """What a place held of the points.

    Attributes
    ----------
    place
        A file, or a collection's URI.
    what
        What is kept there.
    points
        How many of the points were there.
    """

    model_config = ConfigDict(frozen=True)

    place: str
    what: str
    points: int


class Left(BaseModel):
    """A place that may still hold some of the points, and how they go from there.

    Attributes
    ----------
    place
        A file, a collection's URI, or what a store keeps.
    remedy
        One sentence.
    """

    model_config = ConfigDict(frozen=True)

    place: str
    remedy: str


class Receipt(BaseModel):
    """What a run removed.

    Attributes
    ----------
    ids
        What was to be forgotten.
    found_nowhere
        Those of these that were in no place.
    still_at_source
        Those of these that the source has.
    targets, searched
        Collections that were looked at, and folders and files.
    removed, left
        By place.
    """

    model_config = ConfigDict(frozen=True)

    ids: tuple[PointId, ...]
    found_nowhere: tuple[PointId, ...]
    still_at_source: tuple[PointId, ...]
    targets: tuple[str, ...]
    searched: tuple[str, ...]
    removed: tuple[Removed, ...]
    left: tuple[Left, ...]
    dry_run: bool
    finished_at: str

    def counts(self) -> dict[str, int]:
        """Return what a record of the run keeps of it."""
        return {"forgotten": len(self.ids) - len(self.found_nowhere)}
