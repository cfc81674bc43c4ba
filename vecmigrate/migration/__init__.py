"""A collection's way into a new one: read, translated, written, compared."""

from vecmigrate.migration.run import MigrationResult, migrate

__all__ = ["MigrationResult", "migrate"]
