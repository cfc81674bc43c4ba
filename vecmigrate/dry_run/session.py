"""What every step of a dry run works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vecmigrate.connector.source import Source
from vecmigrate.dry_run.options import DryRunOptions, Stage
from vecmigrate.encoders import Encoder
from vecmigrate.encoders.metered import Budget, EmbeddingStore, TokenCounter
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.points.screening import Skipped, screen
from vecmigrate.report.schema import Cost, Spending
from vecmigrate.runtime.threads import prefetch
from vecmigrate.translators.token_features import HasTokenTable

READ_BATCH = 4096
EMBEDDINGS_FOLDER = "embeddings"


@dataclass
class Spent:
    """Texts and tokens given to the new encoder so far, reused ones included."""

    anchors: int = 0
    queries: int = 0
    documents: int = 0
    tokens: int = 0
    reused: int = 0

    @property
    def texts(self) -> int:
        """All of them."""
        return self.anchors + self.queries + self.documents


@dataclass
class Session:
    """An open source, the encoders, and what has been spent.

    Attributes
    ----------
    encoder, query_encoder
        The new encoder, and what encodes queries with it.
    old_encoder
        Encodes queries for the old collection; None where not given.
    population
        Points in the source.
    budget
        Set once the anchors' number is known.
    tokens_per_text
        Mean of a uniform sample.
    text_encoder
        Whose token table the points' texts are read with; None where they are not read.
    """

    source: Source
    description: CollectionDescription
    encoder: Encoder
    query_encoder: Encoder
    old_encoder: Encoder | None
    folder: Path
    options: DryRunOptions
    stage: Stage
    announce: Callable[[str], None]
    budget: Budget = field(default_factory=Budget)
    spent: Spent = field(default_factory=Spent)
    tokens_per_text: float = 0.0
    text_encoder: HasTokenTable | None = None

    def __post_init__(self) -> None:
        folder = self.folder / EMBEDDINGS_FOLDER
        self.documents = EmbeddingStore(folder, self.encoder, "document")
        self.queries = EmbeddingStore(folder, self.query_encoder, "query")

    @property
    def population(self) -> int:
        """Points in the source."""
        return self.description.count

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, so that one step's draws leave others alone."""
        return np.random.default_rng([self.options.seed, purpose])

    @contextmanager
    def reading(self, what: str, *, payloads: bool = False) -> Iterator[Iterator[VectorBatch]]:
        """Yield the source's usable batches, read ahead, with progress."""
        with self.stage(what, self.population) as advance:
            raw = self.source.batches(READ_BATCH, payloads=payloads)
            usable = screen(raw, self.description.uri, self.options.on_bad_vector, Skipped())

            def counted() -> Iterator[VectorBatch]:
                for batch in prefetch(usable):
                    yield batch
                    advance(len(batch))

            yield counted()

    def texts_left(self) -> int | None:
        """Texts that the budget still allows; None where it is in tokens."""
        return None if self.budget.texts is None else self.budget.texts - self.spent.texts

    def tokens_left(self) -> int | None:
        """Tokens that the budget still allows; None where it is in texts."""
        return None if self.budget.tokens is None else self.budget.tokens - self.spent.tokens

    def speed(self) -> float | None:
        """Texts a second, measured; None for ready-made vectors."""
        seconds = self.documents.seconds + self.queries.seconds
        if not self.encoder.needs_texts or seconds == 0:
            return None
        return (self.documents.timed + self.queries.timed) / seconds

    def cost(self, texts: int, tokens: int) -> Cost:
        """Price some texts."""
        speed, price = self.speed(), self.options.price_per_million_tokens
        return Cost(
            texts=texts,
            tokens=tokens,
            hours=None if speed is None else texts / speed / 3600,
            money=None if price is None else tokens * price / 1e6,
        )

    def cost_of_share(self, share: float) -> Cost:
        """Price re-embedding a share of the corpus."""
        texts = round(share * self.population)
        return self.cost(texts, round(texts * self.tokens_per_text))

    def spending(self) -> Spending:
        """The run's account."""
        return Spending(
            anchors=self.spent.anchors,
            queries=self.spent.queries,
            documents=self.spent.documents,
            reused=self.spent.reused + self.documents.reused + self.queries.reused,
            budget_texts=self.budget.texts,
            budget_tokens=self.budget.tokens,
            spent=self.cost(self.spent.texts, self.spent.tokens),
            everything=self.cost_of_share(1.0),
            texts_per_second=self.speed(),
            tokens_counted=isinstance(self.encoder, TokenCounter),
            price_per_million_tokens=self.options.price_per_million_tokens,
        )
