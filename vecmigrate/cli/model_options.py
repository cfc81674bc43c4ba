"""The options of a command line, made from the model of a command's options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from vecmigrate.runtime.options import OnLine, Options


def parameters_of(model: type[Options]) -> list[inspect.Parameter]:
    """Return an option, as typer reads it, for each field of a model."""
    return [each for field in model.model_fields.items() for each in _parameters(*field)]


def take(model: type[Options], given: dict[str, Any]) -> Options:
    """Take a model's options out of what typer gives to a command.

    Raises
    ------
    UsageError
        If the model finds what no option by itself can.
    """
    told = {name: _taken(name, field, given) for name, field in model.model_fields.items()}
    return model.checked({name: value for name, value in told.items() if value is not None})


def _parameters(name: str, field: FieldInfo) -> list[inspect.Parameter]:
    """Return a field's option, or one for each key of a field that is a mapping."""
    shown = _shown(field)
    if shown.each is not None:
        kind, limits = next(iter(_spellable(get_args(field.annotation)[1], ())))
        return [
            _parameter(
                _identifier(name, key), help_, kind, limits, OnLine(f"--{key}", None, shown.panel)
            )
            for key, help_ in shown.each.items()
        ]
    kind, limits = _kind_on_a_line(field)
    return [_parameter(name, field.description or "", kind, limits, shown, field.default)]


def _parameter(
    name: str, help_: str, kind: Any, bounds: dict[str, Any], shown: OnLine, default: Any = None
) -> inspect.Parameter:
    option = typer.Option(
        shown.option or f"--{name.replace('_', '-')}",
        help=help_,
        metavar=shown.metavar,
        rich_help_panel=shown.panel,
        show_default=default is not None,
        min=bounds.get("ge"),
        max=bounds.get("le"),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if default is None else kind, option],
    )


def _taken(name: str, field: FieldInfo, given: dict[str, Any]) -> Any:
    """Take a field's value out of what the command line gave; None if it gave none."""
    each = _shown(field).each
    if each is None:
        return given.pop(name)
    values = {key: given.pop(_identifier(name, key)) for key in each}
    return {key: value for key, value in values.items() if value is not None}


def _shown(field: FieldInfo) -> OnLine:
    return next((each for each in field.metadata if isinstance(each, OnLine)), OnLine())


def _identifier(name: str, key: str) -> str:
    return f"{name}_{re.sub('[^a-z0-9]', '_', key)}"


def _kind_on_a_line(field: FieldInfo) -> tuple[Any, dict[str, Any]]:
    """Return the type that a command line has for a field, and its bounds.

    If a line can spell several of the field's types, the model tells them apart.
    """
    if choices := _shown(field).choices:
        return Literal[tuple(choices())], {}
    kinds = list(_spellable(field.annotation, field.metadata))
    if len(kinds) == 1:
        return kinds[0]
    return str, {}


def _spellable(annotation: Any, metadata: Iterable[Any]) -> Iterable[tuple[Any, dict[str, Any]]]:
    if get_origin(annotation) in (Union, UnionType):
        for kind in get_args(annotation):
            yield from _spellable(kind, ())
    elif get_origin(annotation) is list:
        [(kind, limits)] = _spellable(get_args(annotation)[0], ())
        yield list[kind], limits  # type: ignore[valid-type]
    elif get_origin(annotation) is Annotated:
        yield from _spellable(annotation.__origin__, annotation.__metadata__)
    elif get_origin(annotation) is Literal:
        yield Literal[tuple(map(str, get_args(annotation)))], {}
    elif annotation is not NoneType and issubclass(annotation, (str, int, float, Path, Enum)):
        bounds = [*metadata]
        for each in metadata:
            bounds += each.metadata if isinstance(each, FieldInfo) else ()
        yield (
            annotation,
            {
                name: getattr(each, name)
                for each in bounds
                for name in ("ge", "le")
                if hasattr(each, name)
            },
        )
