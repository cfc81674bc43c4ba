"""The fenced blocks of a page, and what runs their commands."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block, the text before it, and why it is not run, if so."""

    language: str
    code: str
    reason: str | None
    before: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return a page's blocks of some languages, in order."""
    found, end, text = [], 0, page.read_text(encoding="utf-8")
    for each in _BLOCK.finditer(text):
        before, end = text[end : each.start()], each.end()
        found.append(Block(each["language"], each["code"], each["reason"], before))
    return [each for each in found if each.language in languages]


def steps(block: Block) -> Iterator[tuple[str, str | None]]:
    """Yield a block's commands, each with what it prints, None if the page does not say."""
    code = block.code.replace("\\\n", " ")
    if not re.search(r"^\$ ", code, re.MULTILINE):
        yield from ((line, None) for line in code.splitlines() if line and line[0] != "#")
        return
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def shell(command: str, folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a command line with this environment's programs, and return what it printed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, **(variables or {})},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def prints(output: str, expected: str) -> bool:
    """Tell whether a command printed what a page shows, whatever the numbers and the spaces."""
    got, wanted = (
        re.sub(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "N", text) for text in (output, expected)
    )
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(wanted, got, flags)
