"""A collection's way into a new one: read, translated, written, compared."""

from vecmigrate.migration.move import MigrationResult
from vecmigrate.migration.options import MigrateOptions
from vecmigrate.migration.run import migrate
from vecmigrate.points.screening import OnBadVector

__all__ = ["MigrateOptions", "MigrationResult", "OnBadVector", "migrate"]
