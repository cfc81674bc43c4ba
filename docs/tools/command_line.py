"""Writes docs/reference/command-line.md from the commands themselves."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import typer

from vecmigrate.cli.app import app

PAGE = Path(__file__).parents[1] / "reference" / "command-line.md"
SHARED_PANELS = ("Logs and metrics", "Servers")

_HEAD = """\
# The command line

`vecmigrate COMMAND --help` shows the same as this page, which `docs/tools/generate.py` writes from
the commands.

```text
vecmigrate [OPTIONS] COMMAND [ARGUMENTS]
```

{summary}

Every command ends with one of the [exit codes](exit-codes.md). The arguments name
[collections](collections.md) and [encoders](encoders.md).

## Options of every command

These options stand before the command, or after the command, or come from the environment variable
that is named. An option after the command wins over one before the command, and both win over the
variable.

{shared}
"""


def page() -> str:
    """Return the page: what each command does, its arguments, its options and its examples."""
    group: Any = typer.main.get_command(app)
    commands = group.commands.items()
    summary = ["| command | what it does |", "|---|---|"]
    summary += [f"| [`{name}`](#{name}) | {_first_line(each.help)} |" for name, each in commands]
    some = next(iter(group.commands.values()))
    shared = [each for each in _options(some) if each.rich_help_panel in SHARED_PANELS]
    parts = [_HEAD.format(summary="\n".join(summary), shared=_table(some, shared, "option"))]
    parts += [_section(name, command) for name, command in commands]
    return "\n".join(parts)


def _section(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"vecmigrate {name}")
    usage = " ".join([f"vecmigrate {name}", *command.collect_usage_pieces(context)])
    lines = [f"## {name}", "", command.help, "", "```text", usage, "```", ""]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    if arguments:
        lines += [_table(command, arguments, "argument"), ""]
    own = [each for each in _options(command) if each.rich_help_panel not in SHARED_PANELS]
    for panel in dict.fromkeys(each.rich_help_panel for each in own):
        title = f"{panel}" if panel else "option"
        lines += [_table(command, [p for p in own if p.rich_help_panel == panel], title), ""]
    if command.epilog:
        lines += [_examples(command.epilog)]
    return "\n".join(lines)


def _options(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "option"]


def _table(command: Any, parameters: list[Any], title: str) -> str:
    context = typer.Context(command)
    rows = [_row(*each.get_help_record(context)) for each in parameters]
    return "\n".join([f"| {title} | what |", "|---|---|", *rows])


def _row(spelled: str, said: str) -> str:
    said = re.sub(r"\[((?:default: |required|[\dx]+[<>]=?)[^\]]*)\]", r"(\1)", said)
    name, said = f"`{spelled}`", " ".join(said.split()).replace("|", r"\|")
    if "|" in spelled:
        # GitHub and mkdocs disagree on how a cell's code spells a pipe; both know this.
        name = f"<code>{html.escape(spelled).replace('|', '&#124;')}</code>"
    return f"| {name} | {said} |"


def _examples(epilog: str) -> str:
    """Return the examples, which are indented in the help, as a fenced block."""

    def fenced(found: re.Match[str]) -> str:
        code = re.sub(r"^    ", "", found.group(0).strip("\n"), flags=re.MULTILINE)
        return f"<!-- not run: help's examples; the test parses them -->\n```bash\n{code}\n```\n"

    return re.sub(r"(?:^    .*\n)+", fenced, epilog.strip() + "\n", flags=re.MULTILINE)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
