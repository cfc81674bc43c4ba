"""Options of every command: for those who watch it from outside, and how long it waits.

They may stand before the command or after it, where they win, or in the environment.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from vecmigrate.cli.logs import RUNS, LogFormat, LogLevel, handling, logging_to
from vecmigrate.cli.model_options import parameters_of, take
from vecmigrate.cli.options import JsonFlag, QuietFlag
from vecmigrate.cli.output import Output
from vecmigrate.cli.recording import metrics_to
from vecmigrate.runtime.options import OnLine, Options
from vecmigrate.runtime.waiting import DEFAULT_WAIT, patience

_LOGS = "Logs and metrics"
_PRINTED = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=flag)
    for name, flag in (("json_", JsonFlag), ("quiet", QuietFlag))
]


class Observed(Options):
    """What was asked for."""

    log_format: Annotated[LogFormat | None, OnLine(panel=_LOGS)] = Field(
        default=None, description="Log, one line for each event."
    )
    log_file: Annotated[Path | None, OnLine(panel=_LOGS)] = Field(
        default=None, description="File to append logs to; default: standard error."
    )
    log_level: Annotated[LogLevel | None, OnLine(panel=_LOGS)] = Field(
        default=None, description="What to log, at least; default: info."
    )
    metrics_file: Annotated[Path | None, OnLine(panel=_LOGS)] = Field(
        default=None, description="File of figures for Prometheus's textfile collector."
    )
    wait: Annotated[str | None, OnLine(panel="Servers")] = Field(
        default=None,
        description="How long to wait for a server that went away, as 30s or 1h; default: "
        f"{DEFAULT_WAIT}; 0, not at all.",
    )


class ObservedTyper(typer.Typer):
    """An app whose commands print to an :class:`Output` and have the options of :class:`Observed`.

    In place of a command's parameter ``out`` the command line has --json and --quiet, in place of
    one that is a model an option for each of its fields.
    """

    def command(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """As :meth:`typer.Typer.command`."""
        add = super().command(*args, **options)
        return lambda run: add(_observed(run))


def before_commands(callback: Callable[..., None]) -> Callable[..., None]:
    """Add the options to an app's callback; they are found in the environment too."""

    def taking(context: typer.Context, given: dict[str, Any]) -> None:
        context.obj = take(Observed, given)
        callback(**given)

    return _with_options(callback, taking, from_environment=True)


def _observed(run: Callable[..., None]) -> Callable[..., None]:
    def taking(context: typer.Context, given: dict[str, Any]) -> None:
        asked = Observed.given(context.obj, take(Observed, given).told())
        out = Output(as_json=given.pop("json_"), quiet=given.pop("quiet"))
        with ExitStack() as stack:
            # Without any handler, logging prints to standard error what is printed there anyway.
            stack.enter_context(handling(RUNS, logging.NullHandler()))
            with out:
                stack.enter_context(logging_to(asked.log_format, asked.log_file, asked.log_level))
                stack.enter_context(metrics_to(asked.metrics_file))
                stack.enter_context(patience(asked.wait))
            with out:
                for name, model in models.items():
                    given[name] = take(model, given)
                run(out=out, **given)

    models = {
        parameter.name: parameter.annotation
        for parameter in inspect.signature(run, eval_str=True).parameters.values()
        if _is_model(parameter)
    }
    return _with_options(run, taking, from_environment=False)


def _with_options(
    function: Callable[..., None],
    taking: Callable[[typer.Context, dict[str, Any]], None],
    *,
    from_environment: bool,
) -> Callable[..., None]:
    """Return a function of the same parameters and ours, as typer reads them."""

    @functools.wraps(function)
    def wrapped(typer_context: typer.Context, **given: Any) -> None:
        taking(typer_context, given)

    own = inspect.signature(function, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("typer_context", keyword, annotation=typer.Context),
        *(each for p in own.parameters.values() if p.name != "out" for each in _on_line(p)),
        *(_PRINTED if "out" in own.parameters else ()),
        *_observed_parameters(from_environment),
    ]
    wrapped.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def _is_model(parameter: inspect.Parameter) -> bool:
    kind = parameter.annotation
    return isinstance(kind, type) and issubclass(kind, Options)


def _on_line(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    if _is_model(parameter):
        return parameters_of(parameter.annotation)
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]


def _observed_parameters(from_environment: bool) -> list[inspect.Parameter]:
    """Return our options; before the command they are found in the environment, too."""
    parameters = parameters_of(Observed)
    for parameter in parameters:
        [option] = parameter.annotation.__metadata__
        variable = f"VECMIGRATE_{parameter.name.upper()}"
        if from_environment:
            option.envvar = variable
        else:
            option.help = f"{option.help} Or {variable}."
    return parameters
