"""Encoders turn texts into vectors; each kind is a plugin of the group ``vecmigrate.encoders``.

An encoder is named ``kind:name?option=value``; without a kind it is a sentence-transformers model.
"""

from vecmigrate.encoders.base import Encoder, EncoderRole, EncoderSpec, open_encoder, parse_encoder

__all__ = ["Encoder", "EncoderRole", "EncoderSpec", "open_encoder", "parse_encoder"]
