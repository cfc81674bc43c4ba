"""Where translating is done: here, or spread over the workers of a cluster."""

from vecmigrate.engines.base import Engine, Translation
from vecmigrate.engines.choice import EngineName, open_engine
from vecmigrate.engines.local import LocalEngine

__all__ = ["Engine", "EngineName", "LocalEngine", "Translation", "open_engine"]
