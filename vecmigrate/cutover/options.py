"""Options of a cutover, of the way back, and of deleting what is left behind."""

from __future__ import annotations

from pydantic import Field

from vecmigrate.runtime.options import Options


class RollbackOptions(Options):
    """Options of :func:`roll_back`."""

    dry_run: bool = Field(default=False, description="Show what readers would get; change nothing.")


class CutoverOptions(RollbackOptions):
    """Options of :func:`cut_over`."""

    unverified: bool = Field(default=False, description="Do without a passing `vecmigrate verify`.")


class DropOptions(Options):
    """Options of :func:`drop_source` and :func:`plan_drop`."""

    target_changed: bool = Field(
        default=False,
        description="Accept that what readers have changed since the cutover's verification, as it "
        "does once applications write there.",
    )
