"""What an encoder costs: one that counts, keeps, prices, and stops at its budget."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from vecmigrate.encoders.base import (
    CHARACTERS_PER_TOKEN,
    Attempt,
    BaseEncoder,
    Encoder,
    EncoderRole,
    in_flight,
    require_texts,
)
from vecmigrate.errors import InputError, MismatchError, TextRefusedError, UsageError
from vecmigrate.io.atomic import Rewriting, made_folder
from vecmigrate.io.vector_table import read_table, write_table
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array
from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.points.ids import lookup_of
from vecmigrate.runtime.threads import map_in_parallel

BATCH = 256
"""Texts encoded, and made durable, at a time."""

_FORM = re.compile(r"(\d[\d_,]*) *(texts?|tokens?)?")


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound in one unit; the other is None. There is no bound if both are."""

    texts: int | None = None
    tokens: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``8500``, ``8500 texts`` or ``200000 tokens``.

        Raises
        ------
        UsageError
        """
        form = _FORM.fullmatch(text.strip().lower())
        if form is None:
            raise UsageError(
                f"{text!r} is not a budget", remedy='Write "8500 texts" or "200000 tokens".'
            )
        amount = int(re.sub("[_,]", "", form[1]))
        if (form[2] or "texts").startswith("token"):
            return cls(tokens=amount)
        return cls(texts=amount)

    def in_texts(self, tokens_per_text: float) -> int:
        """Return about how many texts it allows; 0 without a bound."""
        if self.tokens is not None:
            return int(self.tokens / max(tokens_per_text, 1.0))
        return self.texts or 0

    def __str__(self) -> str:
        return f"{self.texts:,} texts" if self.tokens is None else f"{self.tokens:,} tokens"


class BudgetSpentError(UsageError):
    """The budget does not reach for the texts; none of them was embedded."""


@runtime_checkable
class TokenCounter(Protocol):
    """What an encoder offers beyond :class:`Encoder` if its tokenizer is at hand."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens that encoding each text takes."""
        ...


def count_tokens(encoder: Encoder, texts: Sequence[str | None]) -> list[int]:
    """Tokens of each text, by the encoder's tokenizer or else by its characters."""
    plain = [text or "" for text in texts]
    if plain and isinstance(encoder, TokenCounter):
        return encoder.count_tokens(plain)
    return [-(-len(text) // CHARACTERS_PER_TOKEN) for text in plain]


class Cost(BaseModel, frozen=True, extra="forbid"):
    """What embedding some texts takes.

    Hours are None if no speed was measured, money if no price was given.
    """

    texts: int
    tokens: int
    hours: float | None
    money: float | None = None


class Meter:
    """The account of one or more encoders; threads may share it.

    Parameters
    ----------
    budget
        Bound on texts or tokens.
    price_per_million_tokens
        In any currency; None if it is not known.
    counts_reused
        True if reused texts count as well, so that a run that is repeated does the same. False if
        the account is of what was paid for.

    Attributes
    ----------
    texts, tokens
        All that was asked for; reused ones included, if they count.
    reused
        Texts whose vectors were there already.
    encoded, seconds
        Texts that were embedded, and how long at least one call was under way.
    earlier_texts, earlier_tokens
        Of these, what earlier runs of the same job had paid for.
    estimated
        True if tokens were counted by characters, and no server has told them.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        price_per_million_tokens: float | None = None,
        *,
        counts_reused: bool = True,
    ) -> None:
        self.budget = budget or Budget()
        self.price_per_million_tokens = price_per_million_tokens
        self.counts_reused = counts_reused
        self.texts = self.tokens = self.reused = self.encoded = 0
        self.earlier_texts = self.earlier_tokens = 0
        self.estimated = self.told = False
        self.seconds = 0.0
        self._lock = Lock()
        self._calls = 0
        self._since = 0.0
        self._beside: Meter | None = None

    def beside(self) -> Meter:
        """Return the account of texts that no budget bounds: those that are only compared."""
        if self._beside is None:
            self._beside = Meter(None, self.price_per_million_tokens, counts_reused=False)
        return self._beside

    @property
    def left(self) -> Budget:
        """What the budget still allows, in its unit."""
        texts, tokens = self.budget.texts, self.budget.tokens
        return Budget(
            texts=None if texts is None else texts - self.texts,
            tokens=None if tokens is None else tokens - self.tokens,
        )

    @property
    def exhausted(self) -> bool:
        """True if the budget allows nothing more."""
        left = self.left
        return any(amount is not None and amount <= 0 for amount in (left.texts, left.tokens))

    @property
    def money(self) -> float | None:
        """What the tokens cost; None without a price."""
        price = self.price_per_million_tokens
        return None if price is None else self.tokens * price / 1e6

    def line(self) -> str:
        """Tell tokens, and money if there is a price, for a person."""
        money = "" if self.money is None else f", {money_text(self.money)} paid"
        return f"{'about ' if self.estimated else ''}{self.tokens:,} tokens{money}"

    def paid_before(self, texts: int, tokens: int, *, estimated: bool = False) -> None:
        """Put on the account what earlier runs of the same job have paid for."""
        with self._lock:
            self.earlier_texts += texts
            self.earlier_tokens += tokens
            self.estimated |= estimated and tokens > 0
        self.paid_elsewhere(texts, tokens)

    def paid_elsewhere(self, texts: int, tokens: int) -> None:
        """Put on the account what other processes have paid for."""
        with self._lock:
            self.texts += texts
            self.tokens += tokens

    def tell(self, by_characters: int, told: int) -> None:
        """Put the tokens that a server has counted on the account, in place of an estimate."""
        with self._lock:
            self.tokens += told - by_characters
            self.told = True

    def reserve(
        self, tokens: Sequence[int], free: NDArray[np.bool_] | None = None, *, partly: bool = False
    ) -> int:
        """Put texts on the account before they are embedded, and return how many.

        Parameters
        ----------
        tokens
            Of each text.
        free
            ``(n,)``: True for texts that do not count; None if all do.
        partly
            Take the first ones that the budget allows, instead of all or none.

        Raises
        ------
        BudgetSpentError
            If not all are allowed, and not ``partly``.
        """
        with self._lock:
            left, count = self.left, len(tokens)
            paid = np.ones(count, np.int64) if free is None else (~free).astype(np.int64)
            texts, spent = np.cumsum(paid), np.cumsum(paid * np.asarray(tokens, np.int64))
            if left.texts is not None:
                count = int(np.searchsorted(texts, left.texts, side="right"))
            if left.tokens is not None:
                count = min(count, int(np.searchsorted(spent, left.tokens, side="right")))
            if count < len(tokens) and not partly:
                raise BudgetSpentError(
                    f"a budget of {self.budget} does not reach for {texts[-1]:,} texts of "
                    f"{spent[-1]:,} tokens beside {self.texts:,} of {self.tokens:,}",
                    remedy="Raise the budget; what was embedded is kept.",
                )
            self.texts += int(texts[count - 1]) if count else 0
            self.tokens += int(spent[count - 1]) if count else 0
        return count

    def release(self, tokens: Sequence[int]) -> None:
        """Take reserved texts off the account that were not embedded."""
        with self._lock:
            self.texts -= len(tokens)
            self.tokens -= sum(tokens)

    def reuse(self, texts: int) -> None:
        """Note that so many reserved texts had their vectors already."""
        with self._lock:
            self.reused += texts

    @contextmanager
    def encoding(self, texts: int) -> Iterator[None]:
        """Note that so many texts are embedded within, and how long that takes."""
        with self._lock:
            self._since = self._since if self._calls else time.perf_counter()
            self._calls += 1
        done = 0
        try:
            yield
            done = texts
        finally:
            with self._lock:
                now = time.perf_counter()
                self.seconds += now - self._since
                self._since = now
                self._calls -= 1
                self.encoded += done


def money_text(amount: float) -> str:
    """``1,234.50`` in the price's own currency; small amounts to two digits."""
    if amount == 0 or amount >= 0.1:
        return f"{amount:,.2f}"
    return f"{amount:.{1 - math.floor(math.log10(amount))}f}".rstrip("0")


class FoundVectors(Protocol):
    """Where vectors that were bought are found again."""

    def read(self, keys: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        """Copy vectors to the ``(n, d)`` rows of their keys, see :func:`text_keys`.

        Returns which of the ``n`` keys are here.
        """
        ...


class VectorStore(FoundVectors, Protocol):
    """Where vectors that were bought are kept and found again.

    Attributes
    ----------
    role
        Of the texts.
    batch
        Texts encoded, and made durable, at a time.
    """

    @property
    def role(self) -> EncoderRole: ...

    @property
    def batch(self) -> int: ...

    def keep(
        self, keys: list[str], vectors: Vectors, points: IdArray | None, tokens: Sequence[int]
    ) -> None:
        """Add ``(n, d)`` vectors of ``(n,)`` points, if it is known of which, durably.

        Raises
        ------
        WriteError
        """
        ...


def read_from(
    vectors: Mapping[str, Vectors], keys: Sequence[str], into: Vectors
) -> NDArray[np.bool_]:
    """As :meth:`FoundVectors.read`, from ``(d,)`` vectors by their keys."""
    here = np.zeros(len(keys), np.bool_)
    for row, key in enumerate(keys):
        found = vectors.get(key)
        if found is not None:
            into[row], here[row] = found, True
    return here


EMBEDDINGS_FOLDER = "embeddings"
"""What a dry run bought lies there, in its folder."""

BOUGHT = "a file of bought embeddings"
POINT = "point"
"""Column of a bought vector's point; files of the first versions have none."""


class BoughtHeader(BaseModel, frozen=True):
    """What the header of a file of bought vectors says."""

    encoder: EncoderIdentity
    role: EncoderRole


class EmbeddingStore:
    """Vectors of one encoder and role in a folder, as ``ROLE-NNNNNN.parquet``.

    Parameters
    ----------
    batch
        Texts encoded, and made durable, at a time.

    Attributes
    ----------
    vectors
        ``(d,)`` each, by their keys.

    Raises
    ------
    MismatchError
        If the folder holds another encoder's vectors.
    """

    def __init__(
        self, folder: Path, encoder: EncoderIdentity, role: EncoderRole, batch: int = BATCH
    ) -> None:
        self.role, self.batch = role, batch
        self._folder = folder
        self._header = BoughtHeader(encoder=encoder, role=role)
        self.vectors: dict[str, Vectors] = {}
        self._parts = 0
        self._lock = Lock()
        for path in sorted(folder.glob(f"{role}-*.parquet")):
            columns, header = read_table(path, BOUGHT)
            found = BoughtHeader.model_validate(header)
            if not found.encoder.same_as(encoder):
                raise MismatchError(
                    f"{folder} holds vectors of {found.encoder}, not of {encoder}",
                    remedy="Name another folder with --out.",
                )
            self.vectors.update(zip(columns["id"].tolist(), columns["vector"], strict=True))
            self._parts += 1

    def read(self, keys: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        return read_from(self.vectors, keys, into)

    def keep(
        self,
        keys: list[str],
        vectors: Vectors,
        points: IdArray | None,
        tokens: Sequence[int] = (),
    ) -> None:
        with self._lock:
            path = made_folder(self._folder) / f"{self.role}-{self._parts:06d}.parquet"
            of = {} if points is None else {POINT: points}
            write_table(path, {"id": id_array(keys), "vector": vectors, **of}, self._header)
            self._parts += 1
            self.vectors.update(zip(keys, vectors, strict=True))


def bought_files(path: Path) -> list[Path]:
    """Return the files of bought vectors in the folder of a dry run, or in that of a file of it."""
    folder = path if path.is_dir() else path.parent
    return sorted((folder / EMBEDDINGS_FOLDER).glob("*-*.parquet"))


def without_bought(path: Path, ids: IdArray) -> Rewriting | None:
    """Return a file of bought vectors without those of some points; None if it has none.

    It stays, be it empty: its number is not to be given again. A query's vector goes too if its id
    is one of these: where documents serve as queries, it is that of a document's text.

    Raises
    ------
    InputError
        If it is no such file, or is from before points were noted.
    """
    columns, header = read_table(path, BOUGHT)
    if POINT not in columns:
        raise InputError(
            f"{path} holds bought vectors, and does not say of which points",
            remedy="Remove its folder; what is still needed of it is bought again.",
        )
    gone = lookup_of(ids).rows(columns[POINT]) >= 0
    if not gone.any():
        return None
    kept = {name: values[~gone] for name, values in columns.items()}
    return Rewriting(
        frozenset(columns[POINT][gone].tolist()),
        lambda to: write_table(to, kept, BoughtHeader.model_validate(header)),
    )


class MeteredEncoder:
    """An encoder on an account; see :class:`vecmigrate.encoders.Encoder`.

    Several threads may call it at once if the encoder allows that; a text that two of them ask for
    at the same time is embedded twice.

    Parameters
    ----------
    meter
        Shared with others whose texts count too; default: one without a budget.
    store
        Where vectors of its role are kept and found again; default: nowhere. Ready-made ones are
        not kept.
    """

    def __init__(
        self, encoder: Encoder, meter: Meter | None = None, store: VectorStore | None = None
    ) -> None:
        self.encoder = encoder
        self.identity = encoder.identity
        self.needs_texts = encoder.needs_texts
        self.meter = meter or Meter()
        self._store = store if encoder.needs_texts else None
        # Of one call at a time, the vectors are stored while the next one is made.
        self._turns: AbstractContextManager[object] = nullcontext()
        if hasattr(encoder, "in_flight"):
            self._turns = BoundedSemaphore(max(2, in_flight(encoder)))

    @classmethod
    def of(cls, encoder: Encoder) -> MeteredEncoder:
        """Return the encoder itself if it is on an account, else one on an account of its own."""
        return encoder if isinstance(encoder, cls) else cls(encoder)

    def storing(self, store: VectorStore) -> MeteredEncoder:
        """Return the same encoder on the same account, with another store."""
        return MeteredEncoder(self.encoder, self.meter, store)

    def encode(
        self,
        texts: Sequence[str | None] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: EncoderRole = "document",
        keep: bool = True,
        partly: bool = False,
        progress: Callable[[int], None] = lambda count: None,
        refused: dict[int, InputError] | None = None,
    ) -> Vectors:
        """Return ``(n, d)`` float32 vectors, row i for text (or id) i.

        Parameters
        ----------
        texts
            None among them counts as "".
        keep
            False neither looks in the store nor adds to it.
        partly
            Embed the first texts that the budget allows, instead of all or none: n may be less
            than was given, down to 0.
        progress
            Called with the number of texts just embedded, or found in the store; in several
            threads, one at a time. What it raises ends the call.
        refused
            Gets the rows of texts that the encoder does not take, and why; their vectors hold
            nothing of use. Default: the first one is an error, and the others' vectors stay in the
            store.

        Raises
        ------
        BudgetSpentError
            If the budget does not reach for all, and not ``partly``; nothing was embedded.
        TextRefusedError, BadVectorError
            If a text is not taken and no ``refused`` is given, or the encoder takes none at all.
        InputError
            If the encoder's answer is not usable.
        UnreachableError, WriteError
            From the encoder and the store; what was embedded before stays in the store.
        """
        given: list[str | None]
        if texts is None and not self.needs_texts:
            given = [None] * len(ids if ids is not None else ())
        else:
            given = list(require_texts(texts, self.identity.name))
        points = None if ids is None else id_array(ids)
        vectors = np.empty((len(given), self.identity.dimension), np.float32)
        store = self._store if keep and self._store and self._store.role == role else None
        keys = text_keys(points, given) if store is not None else []
        found = np.zeros(len(given), np.bool_)
        if store is not None:
            found[:] = store.read(keys, vectors)
        asked = _Asked(given, points, keys, role, self._tokens(given, found), vectors)
        free = None if self.meter.counts_reused else found
        count = self.meter.reserve(asked.tokens, free, partly=partly)
        todo = np.flatnonzero(~found[:count])
        self.meter.reuse(count - len(todo))
        not_taken = _Refusals(raised=refused is None)
        self._buy(asked, todo, store, count - len(todo), _one_at_a_time(progress), not_taken)
        self.meter.release([asked.tokens[row] for row in not_taken.unpaid()])
        if len(not_taken.why) == count >= _ALL_REFUSED:
            raise not_taken.of_all()
        if refused is not None and not_taken.why:
            vectors[list(not_taken.why)] = np.nan
            refused.update(not_taken.why)
        return vectors[:count]

    def _tokens(self, texts: list[str | None], found: NDArray[np.bool_]) -> list[int]:
        """Count the tokens of each text; 0 for those found, unless they count."""
        if self.meter.counts_reused or not found.any():
            return self.count_tokens(texts)
        tokens = np.zeros(len(texts), np.int64)
        tokens[~found] = self.count_tokens([texts[row] for row in np.flatnonzero(~found)])
        counted: list[int] = tokens.tolist()
        return counted

    def _buy(
        self,
        asked: _Asked,
        todo: NDArray[np.intp],
        store: VectorStore | None,
        reused: int,
        progress: Callable[[int], None],
        refused: _Refusals,
    ) -> None:
        """Embed the rows ``todo`` of what was asked for, as many calls at once as is of use."""
        size = max(1, len(todo) if store is None else store.batch)
        parts = [todo[start : start + size] for start in range(0, len(todo), size)]
        left = set(todo.tolist())

        def one(rows: NDArray[np.intp]) -> int:
            some = None if asked.points is None else asked.points[rows]
            # Until they are stored, a kill loses them: no more than this is under way.
            with self._turns:
                made = self._ask([asked.texts[row] for row in rows], some, asked.role)
                left.difference_update(rows.tolist())
                self._note_tokens(asked, rows, made)
                if made.refused:
                    taken = np.setdiff1d(np.arange(len(rows)), list(made.refused))
                    refused.add({int(rows[at]): why for at, why in made.refused.items()})
                    some = None if some is None else some[taken]
                    rows, made = rows[taken], Attempt(made.vectors[taken])
                if store is not None and len(rows):
                    tokens = [asked.tokens[row] for row in rows]
                    store.keep([asked.keys[row] for row in rows], made.vectors, some, tokens)
            refused.check()
            asked.vectors[rows] = made.vectors
            progress(len(rows))
            return len(rows)

        at_once = min(in_flight(self.encoder), len(parts))
        try:
            progress(reused)
            if at_once < 2:
                deque(map(one, parts), maxlen=0)
            else:
                deque(map_in_parallel(one, parts, at_once, name="encode"), maxlen=0)
        except BaseException:
            self.meter.release([asked.tokens[row] for row in [*left, *refused.unpaid()]])
            raise

    def _note_tokens(self, asked: _Asked, rows: NDArray[np.intp], made: Attempt) -> None:
        """Replace the estimated tokens of texts that were paid for by those that a server tells."""
        if self.meter.counts_reused or not self.needs_texts:
            return
        refused = {at for at, why in made.refused.items() if isinstance(why, TextRefusedError)}
        paid = [row for at, row in enumerate(rows.tolist()) if at not in refused]
        if made.tokens is None:
            self.meter.estimated |= bool(paid) and not isinstance(self.encoder, TokenCounter)
            return
        guessed = [asked.tokens[row] for row in paid]
        ends = np.cumsum([0, *guessed]) / max(sum(guessed), 1)
        told = np.diff(np.rint(ends * made.tokens).astype(int)).tolist()
        self.meter.tell(sum(guessed), sum(told))
        for row, tokens in zip(paid, told, strict=True):
            asked.tokens[row] = tokens

    def reuse(self, texts: Sequence[str | None]) -> None:
        """Put texts on the account whose vectors an earlier run has paid for.

        Raises
        ------
        BudgetSpentError
        """
        self.meter.reuse(self.meter.reserve(self.count_tokens(texts)))

    def count_tokens(self, texts: Sequence[str | None]) -> list[int]:
        """Tokens of each text, see :func:`count_tokens`."""
        return count_tokens(self.encoder, texts)

    def tokens_per_text(self, texts: Sequence[str | None]) -> float:
        """Return the mean of those that are there; 0 if none is."""
        tokens = self.count_tokens([text for text in texts if text])
        return float(np.mean(tokens)) if tokens else 0.0

    @property
    def texts_per_second(self) -> float | None:
        """The speed that was measured; None before any call, and for ready-made vectors."""
        meter = self.meter
        return meter.encoded / meter.seconds if self.needs_texts and meter.seconds else None

    def cost(self, texts: int, tokens: int) -> Cost:
        """Price some texts."""
        speed, price = self.texts_per_second, self.meter.price_per_million_tokens
        return Cost(
            texts=texts,
            tokens=tokens,
            hours=texts / speed / 3600 if speed else None,
            money=None if price is None else tokens * price / 1e6,
        )

    def _ask(self, texts: list[str | None], ids: IdArray | None, role: EncoderRole) -> Attempt:
        if self.needs_texts:
            with self.meter.encoding(len(texts)):
                made = self._attempt([text or "" for text in texts], ids, role)
        else:
            made = self._attempt(None, ids, role)
        usable = np.ones(len(made.vectors), np.bool_)
        usable[list(made.refused)] = False
        if (
            made.vectors.shape != (len(texts), self.identity.dimension)
            or not np.isfinite(made.vectors[usable]).all()
        ):
            raise InputError(
                f"{self.identity} gave vectors of shape {made.vectors.shape} for {len(texts)} "
                "texts, or values that are not finite",
                remedy="Check the encoder; nothing of this batch was kept.",
            )
        return made

    def _attempt(self, texts: list[str] | None, ids: IdArray | None, role: EncoderRole) -> Attempt:
        if isinstance(self.encoder, BaseEncoder):
            return self.encoder.attempt(texts, ids=ids, role=role)
        return Attempt(self.encoder.encode(texts, ids=ids, role=role))


_ALL_REFUSED = 10
"""If so many texts are asked for and none is taken, it is not the texts that are at fault."""


class _Refusals:
    """Texts that an encoder did not take, by rows; threads share it.

    Parameters
    ----------
    raised
        The first one is an error.
    """

    def __init__(self, *, raised: bool) -> None:
        self._raised = raised
        self.why: dict[int, InputError] = {}

    def add(self, why: dict[int, InputError]) -> None:
        self.why.update(why)

    def check(self) -> None:
        """Raise the first one if it is an error."""
        for error in list(self.why.values()) if self._raised else ():
            raise error

    def unpaid(self) -> list[int]:
        """Return the rows that were refused before anything was made of them."""
        return [row for row, why in self.why.items() if isinstance(why, TextRefusedError)]

    def of_all(self) -> InputError:
        """Return the error if no text is taken."""
        first = next(iter(self.why.values()))
        return InputError(
            f"none of {len(self.why):,} texts is taken; the first: {first.message}",
            remedy="Check the encoder and its options.",
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Texts that were asked for, by rows; ``vectors`` is filled in."""

    texts: list[str | None]
    points: IdArray | None
    keys: list[str]
    role: EncoderRole
    tokens: list[int]
    vectors: Vectors


def _one_at_a_time(progress: Callable[[int], None]) -> Callable[[int], None]:
    lock = Lock()

    def tell(count: int) -> None:
        with lock:
            progress(count)

    return tell


def text_keys(ids: IdArray | None, texts: Sequence[str | None]) -> list[str]:
    """Return a key of each id and text: a text that changed since is another one."""
    points = [None] * len(texts) if ids is None else ids.tolist()
    return [
        hashlib.blake2b(f"{point!r}\0{text}".encode(), digest_size=16).hexdigest()
        for point, text in zip(points, texts, strict=True)
    ]
