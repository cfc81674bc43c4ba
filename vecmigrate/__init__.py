"""Move a vector index into a new encoder's space without re-embedding the corpus."""

from vecmigrate.registry import open_sink, open_source
from vecmigrate.translators import Procrustes, load_translator

__version__ = "0.1.0"

__all__ = ["Procrustes", "load_translator", "open_sink", "open_source"]
