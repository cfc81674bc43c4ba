"""What a move would cost, measured before anything is written."""

from vecmigrate.dry_run.options import DryRunOptions
from vecmigrate.dry_run.run import dry_run
from vecmigrate.encoders import Budget

__all__ = ["Budget", "DryRunOptions", "dry_run"]
