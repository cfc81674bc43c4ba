"""How the budget is laid out before anything is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vecmigrate.dry_run.sample import MIN_PROBES
from vecmigrate.dry_run.session import Session
from vecmigrate.errors import UsageError
from vecmigrate.evaluation import Query
from vecmigrate.report.formatting import money

FIRST = 10
"""Each probe's first translated results are all re-embedded."""

DEEPER = 10
"""So many further candidates of each probe, drawn with odds that fall with the rank."""

OLD_DEPTH = 10
"""And so many of the old collection's nearest."""

CHECKED_TEXTS = 32
"""Texts that the encoder is asked twice for."""

DOCUMENTS_PER_PROBE = 15
"""About what a probe takes, its documents shared with other probes not counted twice."""

OLD_DOCUMENTS_PER_PROBE = 5
"""And so many more if the old collection's nearest are re-embedded too."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How a budget is laid out, in texts.

    Attributes
    ----------
    uniform
        Documents of a uniform sample: the calibration plot, and differences at every rank.
    main, labelled, documents
        Probes of each role.
    sure
        Main probes that are covered even if they share no document.
    """

    uniform: int
    main: int
    labelled: int
    documents: int
    sure: int

    @classmethod
    def of(cls, texts: int, *, with_log: bool, with_old: bool, labelled: int) -> Shares:
        """Lay out ``texts``, of which ``labelled`` at most go to further labelled probes."""
        uniform = int(np.clip(texts // 15, 20, 300))
        each = 1 + DOCUMENTS_PER_PROBE + (OLD_DOCUMENTS_PER_PROBE if with_old else 0)
        rest = max(0, texts - uniform)
        documents = rest // 10 // each if with_log else 0
        further = min(labelled, rest // 10 // 2)
        left = rest - documents * each - 2 * further
        # Rather too many: which of them the budget covers is seen when candidates are known.
        main = round(1.2 * left / each)
        unshared = FIRST + DEEPER + (OLD_DEPTH if with_old else 0) + 1
        return cls(
            uniform=uniform,
            main=main,
            labelled=further,
            documents=documents,
            sure=(left - main) // unshared,
        )


def lay_out(session: Session, tokens_per_text: float, queries: Sequence[Query] | None) -> Shares:
    """Lay out the budget and say so.

    Raises
    ------
    UsageError
        If the budget is too small for any estimate.
    """
    drawn, meter = session.drawn, session.encoder.meter
    texts = meter.budget.in_texts(tokens_per_text) - drawn
    shares = Shares.of(
        texts - CHECKED_TEXTS,
        with_log=queries is not None,
        with_old=session.old_encoder is not None,
        labelled=sum(bool(query.relevant) for query in queries or ()),
    )
    if shares.sure < MIN_PROBES:
        raise too_small(session, max(shares.sure, 0))
    cost = session.encoder.cost(drawn + texts, round((drawn + texts) * tokens_per_text))
    price = "" if cost.money is None else f", {money(cost.money)} of money"
    session.announce(
        f"Will embed at most {meter.budget} with {session.encoder.identity.name}: {drawn:,} "
        f"anchors, {texts:,} texts to measure (about {cost.tokens:,} tokens{price}), of "
        f"{session.population:,} points"
    )
    return shares


def too_small(session: Session, main: int) -> UsageError:
    """The error for a budget that no estimate can be made with."""
    return UsageError(
        f"a budget of {session.encoder.meter.budget} reaches for {main} probes, too few for any "
        "estimate",
        remedy=f"Raise --budget so that at least {MIN_PROBES} are covered, or lower --anchors.",
    )
