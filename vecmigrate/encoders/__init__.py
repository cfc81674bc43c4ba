"""Encoders turn texts into vectors; each kind is a plugin of the group ``vecmigrate.encoders``.

An encoder is named ``kind:name?option=value``; without a kind it is a sentence-transformers model.
"""

from vecmigrate.encoders.base import Encoder as Encoder
from vecmigrate.encoders.base import EncoderRole as EncoderRole
from vecmigrate.encoders.base import EncoderSpec as EncoderSpec
from vecmigrate.encoders.base import encode_queries as encode_queries
from vecmigrate.encoders.base import open_encoder as open_encoder
from vecmigrate.encoders.base import parse_encoder as parse_encoder
from vecmigrate.encoders.metered import Budget as Budget
from vecmigrate.encoders.metered import BudgetSpentError as BudgetSpentError
from vecmigrate.encoders.metered import EmbeddingStore as EmbeddingStore
from vecmigrate.encoders.metered import Meter as Meter
from vecmigrate.encoders.metered import MeteredEncoder as MeteredEncoder
