"""The options of a command line, made from the model of a command's options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from enum import Enum
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from vecmigrate.cli.output import Output
from vecmigrate.errors import UsageError
from vecmigrate.runtime.options import OnLine, Options


def takes(model: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of a model, in place of its parameter ``options``.

    The command is called with the model, which has checked what no option by itself can.
    """

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(run, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += (
                [_parameter(name, field) for name, field in model.model_fields.items()]
                if parameter.name == "options"
                else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            )
        required = [each for each in parameters if each.default is inspect.Parameter.empty]
        optional = [each for each in parameters if each.default is not inspect.Parameter.empty]

        @wraps(run)
        def command(**given: Any) -> None:
            values = {name: given.pop(name) for name in model.model_fields}
            told = {name: value for name, value in values.items() if value is not None}
            run(options=_checked(model, told, given), **given)

        command.__signature__ = signature.replace(parameters=[*required, *optional])  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _checked(model: type[Options], told: dict[str, Any], given: dict[str, Any]) -> Options:
    try:
        return model.checked(told)
    except UsageError as error:
        with Output(as_json=given["json_"], quiet=given["quiet"]):
            raise error


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    shown = next((each for each in field.metadata if isinstance(each, OnLine)), OnLine())
    kind, bounds = _kind_on_a_line(field)
    spelled = shown.option or f"--{name.replace('_', '-')}"
    option = typer.Option(
        spelled,
        help=field.description,
        metavar=shown.metavar,
        rich_help_panel=shown.panel,
        show_default=field.default is not None,
        min=bounds.get("ge"),
        max=bounds.get("le"),
    )
    default = inspect.Parameter.empty if field.is_required() else field.default
    optional = kind | None if default is None else kind
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[optional, option],
    )


def _kind_on_a_line(field: FieldInfo) -> tuple[Any, dict[str, Any]]:
    """Return the type that a command line has for a field, and its bounds.

    If a line can spell several of the field's types, the model tells them apart.
    """
    kinds = list(_spellable(field.annotation, field.metadata))
    if len(kinds) == 1:
        return kinds[0]
    return str, {}


def _spellable(annotation: Any, metadata: Iterable[Any]) -> Iterable[tuple[Any, dict[str, Any]]]:
    if get_origin(annotation) in (Union, UnionType):
        for kind in get_args(annotation):
            yield from _spellable(kind, ())
    elif get_origin(annotation) is Annotated:
        yield from _spellable(annotation.__origin__, annotation.__metadata__)
    elif get_origin(annotation) is Literal or (
        annotation is not NoneType and issubclass(annotation, (str, int, float, Path, Enum))
    ):
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
