"""Translated against true: scores of pairs, cosines of documents, predicted uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vecmigrate.report.formatting import count, counted
from vecmigrate.report.plots.canvas import INK, ONE, TWO, Plot, draw, legend_above, mark_mean
from vecmigrate.report.schema import CalibrationDecile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PAIRS = 1500
_BINS = 10


def score_plot(pairs: list[tuple[float, float]]) -> Plot:
    """True against translated score, a dot a pair; ``pairs`` not empty."""
    scores = np.array(pairs, dtype=float)
    translated, true = scores[:, 0], scores[:, 1]
    rows = spread(len(scores), MOST_PAIRS)

    def paint(axes: Axes) -> None:
        ends = [float(scores.min()), float(scores.max())]
        axes.plot(
            translated[rows], true[rows], color=ONE.colour, alpha=0.45, marker="o", markersize=3.4,
            markeredgewidth=0, linestyle="none", label="a probe and a candidate",
        )  # fmt: skip
        axes.plot(ends, ends, color=INK, linestyle="--", linewidth=1.4, label="equal")
        axes.set_xlabel("score with the translated vector")
        axes.set_ylabel("score with the true one")
        legend_above(axes, columns=2)

    return Plot(
        name="scores",
        title="Translated against true scores",
        svg=draw("scores", paint, height=4.0),
        finding=_score_finding(translated, true),
        caption=f"A sample of {counted(len(rows), 'pair')}. Where dots leave the dashed line, "
        "the order of results changes.",
        columns=["translated score", "pairs", "mean true score"],
        rows=_binned(translated, true),
    )


def cosine_histogram(cosines: list[float]) -> Plot:
    """Cosines of translated and true vectors; ``cosines`` not empty."""
    values = np.array(cosines)
    low = min(float(values.min()), 0.999)
    counts, edges = np.histogram(values, bins=20, range=(low, max(1.0, float(values.max()))))

    def paint(axes: Axes) -> None:
        axes.bar(
            edges[:-1], 100 * counts / len(values), width=np.diff(edges) * 0.9, align="edge",
            color=ONE.colour,
        )  # fmt: skip
        mark_mean(axes, float(values.mean()))
        axes.set_xlabel("cosine of translated and true vector")
        axes.set_ylabel("% of the documents")
        axes.grid(visible=False, axis="x")
        axes.locator_params(axis="y", nbins=6, integer=True)
        legend_above(axes, columns=1)

    tenth, median = np.quantile(values, [0.1, 0.5])
    return Plot(
        name="cosines",
        title="How far translated documents are off",
        svg=draw("cosines", paint),
        finding=f"Of {counted(len(values), 'document')} that were no anchors, the cosine of the "
        f"translated and the true vector is {values.mean():.3f} on average and {median:.3f} in "
        f"the median; for a tenth of them it is below {tenth:.3f}.",
        caption="1 would be a perfect translation.",
        columns=["cosine from", "to", "documents"],
        rows=[
            [f"{a:.3f}", f"{b:.3f}", count(int(n))]
            for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        ],
    )


def decile_plot(deciles: list[CalibrationDecile]) -> Plot:
    """True cosine by predicted uncertainty; ``deciles`` not empty."""

    def paint(axes: Axes) -> None:
        axes.plot(
            range(1, len(deciles) + 1), [d.cosine for d in deciles], color=TWO.colour,
            marker=TWO.marker, linestyle="-",
        )  # fmt: skip
        axes.set_xticks(range(1, len(deciles) + 1))
        axes.set_xlabel("tenth of the documents, surest first")
        axes.set_ylabel("mean true cosine")

    first, last = deciles[0].cosine, deciles[-1].cosine
    cosines = np.array([d.cosine for d in deciles])
    falls = np.ptp(cosines) > 0 and _rank_correlation(np.arange(len(cosines)), cosines) <= -0.6
    worth = (
        "So the translator knows where it is unsure."
        if falls
        else "So what the translator predicts says little here."
    )
    return Plot(
        name="deciles",
        title="Does the translator know where it is unsure?",
        svg=draw("deciles", paint),
        finding=f"Mean cosine of translated and true vector is {first:.3f} where the translator is "
        f"surest and {last:.3f} where it is least sure. {worth}",
        caption="A falling line means that the predicted variance can choose what to re-embed.",
        columns=["tenth", "mean predicted variance", "mean true cosine"],
        rows=[
            [str(i), f"{d.variance:.4g}", f"{d.cosine:.3f}"] for i, d in enumerate(deciles, start=1)
        ],
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    ranks = np.array([np.argsort(np.argsort(values)) for values in (a, b)])
    return float(np.corrcoef(ranks)[0, 1])


def _score_finding(translated: np.ndarray, true: np.ndarray) -> str:
    shift = float((translated - true).mean())
    direction = "higher" if shift > 0 else "lower"
    said = (
        f"Over {counted(len(true), 'pair')} of a probe and a candidate, translated scores are "
        f"{abs(shift):.3f} {direction} than true ones on average"
    )
    if np.ptp(translated) > 0 and np.ptp(true) > 0:
        said += f" and correlate with them by {np.corrcoef(translated, true)[0, 1]:.2f}"
    return said + "."


def _binned(translated: np.ndarray, true: np.ndarray) -> list[list[str]]:
    edges = np.linspace(translated.min(), translated.max(), _BINS + 1)
    place = np.clip(np.digitize(translated, edges) - 1, 0, _BINS - 1)
    return [
        [
            f"{edges[i]:.3f} to {edges[i + 1]:.3f}",
            count(int((place == i).sum())),
            f"{true[place == i].mean():.3f}",
        ]
        for i in range(_BINS)
        if (place == i).any()
    ]


def spread(total: int, most: int) -> NDArray[np.intp]:
    """``(min(total, most),)`` positions, evenly spread over ``range(total)``."""
    if total <= most:
        return np.arange(total)
    return np.linspace(0, total - 1, most).round().astype(np.intp)
