"""Options: one model a command, for its command line, its part of a job's file and Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecmigrate.errors import UsageError

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Seed: TypeAlias = Annotated[int, Field(ge=0, description="Seed of every random draw.")]
PointsHeld: TypeAlias = Annotated[int, Field(ge=1, description="Points held at a time.")]


def check_parsed(value: int | str | None, parse: Callable[[str], object]) -> int | str | None:
    """Return a field's value; raises :class:`ValueError` if it is given and cannot be parsed."""
    if value is not None:
        try:
            parse(str(value))
        except UsageError as error:
            raise ValueError(str(error)) from error
    return value


@dataclass(frozen=True, slots=True)
class OnLine:
    """How a command line shows a field, beside its help: an annotation of the field.

    Parameters
    ----------
    option
        The option's name, if not the field's.
    metavar
        What stands for its value.
    panel
        The group of options in which the help shows it.
    each
        Of a field that is a mapping: its keys with their help, an option each.
    choices
        Returns the values of a field that is a name out of a register.
    """

    option: str | None = None
    metavar: str | None = None
    panel: str | None = None
    each: Mapping[str, str] | None = None
    choices: Callable[[], Sequence[str]] | None = None


class Options(BaseModel):
    """What a command may be asked for. Unknown names are refused.

    A field's description is its help, its bounds are those of the command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def given(cls, options: Self | None, keywords: Mapping[str, Any]) -> Self:
        """Return ``options``, changed by keywords.

        Raises
        ------
        UsageError
            If a keyword is not known, or its value out of bounds.
        """
        return cls.checked({**(options.told() if options else {}), **keywords})

    def told(self) -> dict[str, Any]:
        """Return the values that were given, by name; no defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Return options of these values.

        Raises
        ------
        UsageError
            If a name is not known, or a value out of bounds.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise _explained(error) from error


def _explained(error: ValidationError) -> UsageError:
    """Return the first thing that is wrong, with the validator's own words if it has any."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Exception) and isinstance(cause.__cause__, UsageError):
        return cause.__cause__
    said = str(cause) if cause else f"{first['msg'][0].lower()}{first['msg'][1:]}"
    name = f"{first['loc'][0]}: " if first["loc"] else ""
    return UsageError(f"{name}{said}", remedy="Give another value, or leave it out.")


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a run calls while it is at work.

    Parameters
    ----------
    stop
        Asked after each batch; True saves what was done and ends the run.
    announce
        Called with a line for a person.
    progress
        Called with the number of points just done.
    """

    stop: Callable[[], bool] = lambda: False
    announce: Callable[[str], None] = lambda line: None
    progress: Callable[[int], None] = lambda count: None
