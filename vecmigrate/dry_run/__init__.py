"""What a move would cost, measured before anything is written."""

from vecmigrate.dry_run.budget import Budget
from vecmigrate.dry_run.run import dry_run
from vecmigrate.dry_run.settings import Settings

__all__ = ["Budget", "Settings", "dry_run"]
