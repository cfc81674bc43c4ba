"""Move a vector index into a new encoder's space without re-embedding the corpus."""

from vecmigrate.anchors import draw_anchors, load_anchors
from vecmigrate.connector.registry import open_sink, open_source, open_updater, resume_sink
from vecmigrate.encoders import open_encoder
from vecmigrate.evaluation import evaluate
from vecmigrate.migration.run import migrate
from vecmigrate.runtime.waiting import patience
from vecmigrate.search import open_searcher
from vecmigrate.translators import (
    KernelRidge,
    Procrustes,
    Ridge,
    Translator,
    load_translator,
    save_translator,
)

__version__ = "0.1.0"

__all__ = [
    "KernelRidge",
    "Procrustes",
    "Ridge",
    "Translator",
    "draw_anchors",
    "evaluate",
    "load_anchors",
    "load_translator",
    "migrate",
    "open_encoder",
    "open_searcher",
    "open_sink",
    "open_source",
    "open_updater",
    "patience",
    "resume_sink",
    "save_translator",
]
