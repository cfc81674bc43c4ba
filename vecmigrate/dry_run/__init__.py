"""What a move would cost, measured before anything is written."""

from vecmigrate.dry_run.options import DryRunOptions as DryRunOptions
from vecmigrate.dry_run.run import dry_run as dry_run
from vecmigrate.encoders import Budget as Budget
