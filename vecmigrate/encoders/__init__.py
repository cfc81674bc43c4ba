"""Encoders turn texts into vectors; each kind is a plugin of the group ``vecmigrate.encoders``.

An encoder is named ``kind:name?option=value``; without a kind it is a sentence-transformers model.
"""

from vecmigrate.encoders.base import (
    Encoder,
    EncoderRole,
    EncoderSpec,
    encode_queries,
    open_encoder,
    parse_encoder,
)
from vecmigrate.encoders.metered import (
    Budget,
    BudgetSpentError,
    EmbeddingStore,
    Meter,
    MeteredEncoder,
)

__all__ = [
    "Budget",
    "BudgetSpentError",
    "EmbeddingStore",
    "Encoder",
    "EncoderRole",
    "EncoderSpec",
    "Meter",
    "MeteredEncoder",
    "encode_queries",
    "open_encoder",
    "parse_encoder",
]
