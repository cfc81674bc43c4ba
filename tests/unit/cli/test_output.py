"""How a command ends by what was raised in it."""

from __future__ import annotations

import errno

import pytest

from vecmigrate.cli.output import ending_of
from vecmigrate.errors import ExitCode, InputError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, ExitCode.OK),
        (InputError("no", remedy="none"), ExitCode.BAD_INPUT),
        (PermissionError(errno.EACCES, "Permission denied", "folder/x"), ExitCode.BAD_INPUT),
        (OSError(errno.ENOSPC, "No space left on device", "x"), ExitCode.WRITE_FAILED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ValueError("a defect"), ExitCode.INTERNAL),
    ],
)
def test_how_a_command_ends(error: BaseException | None, code: ExitCode) -> None:
    ending = ending_of(error)
    assert ending.code == code
    assert (ending.remedy is None) == (code in (ExitCode.OK, ExitCode.INTERNAL))
