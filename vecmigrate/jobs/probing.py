"""Measures a little, so that a plan can say how long the whole takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from vecmigrate.connector.registry import open_source
from vecmigrate.connector.source import Source
from vecmigrate.encoders import Encoder, open_encoder
from vecmigrate.encoders.metered import count_tokens

_TEXTS = 64
_WARMING = 8
_SECONDS = 1.0
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Probe:
    """What was measured.

    Attributes
    ----------
    count, source_dim, target_dim
        The source's points, and the dimensions of both spaces.
    tokens_per_text
        Mean of the first texts.
    texts_per_second
        Of the encoder; None for ready-made vectors.
    read_rate, translate_rate
        Points a second: read alone, and read and multiplied by a matrix of the two dimensions.
    """

    count: int
    source_dim: int
    target_dim: int
    tokens_per_text: float
    texts_per_second: float | None
    read_rate: float
    translate_rate: float


def probe(source: str, encoder: str) -> Probe:
    """Read for about a second, and encode 64 texts.

    Raises
    ------
    UsageError, InputError, MissingDependencyError, UnreachableError
        From the source and the encoder.
    """
    opened_encoder = open_encoder(encoder)
    with open_source(source) as opened:
        described = opened.describe()
        texts = _first_texts(opened, described.text_field)
        target_dim = opened_encoder.identity.dimension
        speed = _speed(opened_encoder, texts) if opened_encoder.needs_texts and texts else None
        read, translated = _rates(opened, described.dimension, target_dim)
    tokens = count_tokens(opened_encoder, texts) if texts else [0]
    return Probe(
        count=described.count,
        source_dim=described.dimension,
        target_dim=target_dim,
        tokens_per_text=float(np.mean(tokens)),
        texts_per_second=speed,
        read_rate=read,
        translate_rate=translated,
    )


def _first_texts(source: Source, field: str | None) -> list[str]:
    batch = next(source.batches(_BATCH), None)
    found = None if batch is None else batch.texts(field)
    return [text for text in found or () if text]


def _speed(encoder: Encoder, texts: list[str]) -> float:
    # What a first call loads and compiles is not paid for again.
    encoder.encode(texts[:_WARMING])
    begun = time.perf_counter()
    asked = texts[:_TEXTS]
    encoder.encode(asked)
    return len(asked) / (time.perf_counter() - begun)


def _rates(source: Source, source_dim: int, target_dim: int) -> tuple[float, float]:
    matrix = np.ones((source_dim, target_dim), dtype=np.float32)
    points, reading, translating = 0, 0.0, 0.0
    last = time.perf_counter()
    for batch in source.batches(_BATCH):
        read = time.perf_counter()
        batch.vectors @ matrix
        translated = time.perf_counter()
        points += len(batch)
        reading += read - last
        translating += translated - read
        last = translated
        if reading + translating > _SECONDS:
            break
    return points / max(reading, 1e-9), points / max(reading + translating, 1e-9)
