"""A command's options are one model: its command line has each of them, and Python takes them."""

from __future__ import annotations

import click
import pytest
import typer

from vecmigrate.anchors import AnchorOptions
from vecmigrate.cli import app
from vecmigrate.cutover.options import CutoverOptions, DropOptions, RollbackOptions
from vecmigrate.dry_run import DryRunOptions
from vecmigrate.dry_run.options import GATES
from vecmigrate.errors import UsageError
from vecmigrate.evaluation import EvaluateOptions
from vecmigrate.migration import MigrateOptions
from vecmigrate.runtime.options import Options
from vecmigrate.search import SearchOptions
from vecmigrate.sync import SyncOptions
from vecmigrate.translators.fit import FitOptions
from vecmigrate.verification import VerifyOptions

MODELS = {
    "anchors": AnchorOptions,
    "cutover": CutoverOptions,
    "drop-source": DropOptions,
    "dry-run": DryRunOptions,
    "evaluate": EvaluateOptions,
    "fit": FitOptions,
    "migrate": MigrateOptions,
    "prewarm": SearchOptions,
    "rollback": RollbackOptions,
    "search": SearchOptions,
    "sync": SyncOptions,
    "verify": VerifyOptions,
}


def parameters(command: str) -> dict[str, click.Parameter]:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    return {p.name or "": p for p in group.commands[command].params}  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", MODELS)
def test_the_command_line_has_every_field_with_its_help_and_default(command: str) -> None:
    found = parameters(command)
    for name, field in MODELS[command].model_fields.items():
        if name == "gates":
            assert {f"--{gate}" for gate in GATES} <= {p.opts[0] for p in found.values()}
            continue
        assert found[name].help == field.description  # type: ignore[attr-defined]
        assert found[name].default == field.default


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (MigrateOptions, {"batchsize": 3}),
        (MigrateOptions, {"batch_size": 0}),
        (MigrateOptions, {"still": True, "settle": 0.1}),
        (MigrateOptions, {"still": True, "changed_by": "at"}),
        (
            MigrateOptions,
            {"reembed": "5%", "encoder": "m", "keep_anchors": "a", "on_missing_text": "skip"},
        ),
        (DryRunOptions, {"horizon": "30"}),
        (VerifyOptions, {"full": True, "sample": 3}),
        (SyncOptions, {"reembed_budget": 5}),
        (DryRunOptions, {"budget": "lots"}),
        (DryRunOptions, {"anchors": "1"}),
        (DryRunOptions, {"method": "magic"}),
        (FitOptions, {"method": "magic"}),
        (EvaluateOptions, {"k": [10, 0]}),
        (EvaluateOptions, {"k": []}),
        (CutoverOptions, {"dry_run": "perhaps"}),
        (DryRunOptions, {"gates": {"min-recall@10": 2}}),
        (DryRunOptions, {"gates": {"min-recall@11": 0.5}}),
    ],
)
def test_what_is_not_known_or_out_of_bounds_is_a_usage_error(
    model: type[Options], values: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        model.checked(values)


def test_keywords_change_what_options_say() -> None:
    begun = MigrateOptions(batch_size=7, max_rate=2.0)
    assert MigrateOptions.given(begun, {"batch_size": 8}) == MigrateOptions(
        batch_size=8, max_rate=2.0
    )
    assert MigrateOptions.given(None, {}) == MigrateOptions()
