"""Move a vector index into a new encoder's space without re-embedding the corpus."""

from vecmigrate.registry import open_sink, open_source

__version__ = "0.1.0"

__all__ = ["open_sink", "open_source"]
