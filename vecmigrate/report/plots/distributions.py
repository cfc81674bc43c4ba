"""How far single probes and documents are off: recall, scores, cosines, predicted uncertainty."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecmigrate.report.formatting import count, counted, percent
from vecmigrate.report.plots.canvas import (
    DOT,
    INK,
    LOSSES,
    ONE,
    PAPER,
    TWO,
    Axes,
    Plot,
    draw,
    legend_above,
)
from vecmigrate.report.schema import CalibrationDecile, ProbeLoss

MOST_PROBES = 1200
MOST_DOCUMENTS = 2500

# Lower ends of the classes of recall@10 but the last, from no loss to all lost.
_CLASS_ENDS = np.array([0.95, 0.75, 0.45, 0.15])
_CLASS_NAMES = ("1", "0.8 to 0.9", "0.5 to 0.7", "0.2 to 0.4", "0 to 0.1")
_NEIGHBOURS = 10


def loss_histogram(losses: list[ProbeLoss]) -> Plot:
    """How many probes have which recall@10; ``losses`` not empty."""
    recalls = np.array([loss.recall_at_10 for loss in losses])
    edges = np.linspace(-0.05, 1.05, 12)
    counts = np.histogram(recalls, edges)[0]
    shares = counts / len(recalls)

    def paint(axes: Axes) -> None:
        _bars(axes, np.arange(11) / 10, 0.085, shares, float(recalls.mean()))
        axes.set_xticks(np.arange(0, 1.01, 0.2))
        axes.set_xlabel("recall@10 of a probe")
        axes.set_ylabel("% of the probes")

    half_lost, whole = int((recalls < 0.5).sum()), int((recalls > 0.95).sum())
    return Plot(
        name="loss-histogram",
        title="recall@10, probe by probe",
        svg=draw("loss-histogram", paint),
        finding=f"Of {counted(len(losses), 'probe')}, {percent(half_lost / len(losses))} keep less "
        f"than half of their ten nearest, {percent(whole / len(losses))} keep all of them, and "
        f"{percent(float(shares[0]))} keep none. The median is {np.median(recalls):.2f}.",
        caption="The mean hides this: how evenly the loss is spread over what users ask.",
        columns=["recall@10", "probes", "share"],
        rows=[
            [f"{step / 10:.1f}", count(int(counts[step])), percent(float(shares[step]))]
            for step in range(11)
        ],
    )


def _bars(axes: Axes, places: np.ndarray, width: float, shares: np.ndarray, mean: float) -> None:
    """Bars of shares in percent, and a line at the mean, set off from them in both themes."""
    axes.bar(places, 100 * shares, width=width, color=ONE.colour)
    axes.axvline(mean, color=PAPER, linewidth=4)
    axes.axvline(mean, color=INK, linestyle="--", linewidth=1.4, label=f"mean {mean:.3f}")
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", nbins=6, integer=True)
    legend_above(axes, columns=1)


def loss_map(losses: list[ProbeLoss], corpus: list[tuple[float, float]]) -> Plot:
    """Probes on the 2-D map by recall@10, documents behind; ``losses`` not empty."""
    places = np.array([(loss.x, loss.y) for loss in losses])
    recalls = np.array([loss.recall_at_10 for loss in losses])
    classes = (recalls[:, None] < _CLASS_ENDS).sum(axis=1)
    shown = spread(len(losses), MOST_PROBES)
    behind = np.array(corpus, dtype=float).reshape(-1, 2)
    behind = behind[spread(len(behind), MOST_DOCUMENTS)]

    def paint(axes: Axes) -> None:
        axes.plot(
            behind[:, 0], behind[:, 1], color=DOT, marker="o", markersize=2.2, linestyle="none",
            markeredgewidth=0, label="documents",
        )  # fmt: skip
        # The greatest losses last, on top.
        for step, (name, colour) in enumerate(zip(_CLASS_NAMES, LOSSES, strict=True)):
            rows = shown[classes[shown] == step]
            axes.plot(
                places[rows, 0], places[rows, 1], color=colour, marker="o",
                markersize=4 + 0.7 * step, linestyle="none", markeredgecolor=PAPER,
                markeredgewidth=0.5, label=f"recall {name}",
            )  # fmt: skip
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_axis_off()
        legend_above(axes, columns=2)

    return Plot(
        name="loss-map",
        title="Where in the corpus the losses lie",
        svg=draw("loss-map", paint, height=5.1),
        finding=_map_finding(places, recalls),
        caption="The two axes have no meaning of their own: near is alike. Larger and stronger "
        f"dots have lost more. Drawn: {counted(len(shown), 'probe')} and "
        f"{counted(len(behind), 'document')}.",
        columns=["recall@10", "probes"],
        rows=[
            [name, count(int((classes == step).sum()))] for step, name in enumerate(_CLASS_NAMES)
        ],
    )


def _map_finding(places: np.ndarray, recalls: np.ndarray) -> str:
    said = f"{counted(len(recalls), 'probe')} on the map."
    if len(recalls) < 5 * _NEIGHBOURS or np.ptp(recalls) == 0:
        return f"{said} They are too few, or too alike, to tell whether losses lie together."
    rows = spread(len(recalls), MOST_PROBES)
    places, recalls = places[rows], recalls[rows]
    distances = ((places[:, None, :] - places[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argpartition(distances, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    around = recalls[nearest].mean(axis=1)
    if np.ptp(around) == 0:
        return f"{said} Losses are spread evenly."
    alike = float(np.corrcoef(recalls, around)[0, 1])
    words = (
        "lie together in some regions" if alike >= 0.4
        else "lie together a little" if alike >= 0.15
        else "are spread evenly"
    )  # fmt: skip
    return (
        f"{said} Losses {words}: a probe's recall and that of its ten neighbours on the map "
        f"correlate by {alike:.2f}."
    )


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
        width = 0.9 * (edges[1] - edges[0])
        _bars(axes, edges[:-1] + width / 2, width, counts / len(values), float(values.mean()))
        axes.set_xlabel("cosine of translated and true vector")
        axes.set_ylabel("% of the documents")

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
    ranks = np.argsort(np.argsort(cosines))
    falls = np.ptp(cosines) > 0 and np.corrcoef(np.arange(len(ranks)), ranks)[0, 1] <= -0.6
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
