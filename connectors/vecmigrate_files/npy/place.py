"""Which files belong to an array of vectors."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from vecmigrate.connector import InputError, LocalPlace, Mark, UsageError
from vecmigrate_files.place import reading

OPTIONS = ("ids", "payload", "text", "metric")


class NpyMark(Mark):
    """The companion, ``NAME.npy.vecmigrate.json``: also names the files beside the vectors."""

    ids: str | None = None
    payload: str | None = None


class NpyPlace(LocalPlace):
    """A URI of an array, and the files that belong to it, there or not."""

    @property
    def companion(self) -> Path:
        return self._beside(f"{self.path.name}.vecmigrate.json")

    @property
    def ids(self) -> Path:
        """Where a target's ids go."""
        return self._asked("ids") or self._beside(f"{self.path.stem}.ids.npy")

    @property
    def payload(self) -> Path:
        """Where a target's payloads go."""
        return self._asked("payload") or self._beside(f"{self.path.stem}.jsonl")

    def files(self) -> list[Path]:
        """All that a target may have beside its vectors."""
        return [self.ids, self.payload, self.companion]

    def mark(self) -> NpyMark | None:
        """Return what vecmigrate noted; None if another made the array.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        if not self.companion.exists():
            return None
        with reading(self.companion):
            text = self.companion.read_text(encoding="utf-8")
        try:
            return NpyMark.model_validate_json(text)
        except ValidationError as error:
            raise InputError(
                f"{self.companion} is no note of vecmigrate's",
                remedy="Restore the file, or move it away and name ids= and payload= yourself.",
            ) from error

    def found(self, option: str, noted: str | None) -> Path | None:
        """Return a source's file: as the URI says, else as noted; None if it has none."""
        return self._asked(option) or (self._beside(noted) if noted else None)

    def check_target(self) -> None:
        """Raise :class:`UsageError` if the files of a target cannot have such names."""
        path = self.path
        if path.suffix != ".npy":
            raise UsageError(
                f"{self.uri}: the name of an array ends in .npy", remedy="Write npy:NAME.npy."
            )
        for option, suffix in (("ids", ".npy"), ("payload", ".jsonl")):
            asked = self._asked(option)
            if asked is not None and asked.suffix != suffix:
                raise UsageError(
                    f"{self.uri}: a target's {option} are written as {suffix}",
                    remedy=f"Write {option}=NAME{suffix}, or leave it out.",
                )
            # They are renamed to there, which goes on one disk only.
            if asked is not None and asked.parent.resolve() != path.parent.resolve():
                raise UsageError(
                    f"{self.uri}: {asked} is not beside the vectors",
                    remedy=f"Name a file in {path.parent}.",
                )
        if len({path, *self.files()}) < 4:
            raise UsageError(f"{self.uri} has one name for two files", remedy="Name another one.")

    def _asked(self, option: str) -> Path | None:
        given = self.option(option)
        return None if given is None else Path(given)

    def _beside(self, name: str) -> Path:
        return self.path.with_name(name)
