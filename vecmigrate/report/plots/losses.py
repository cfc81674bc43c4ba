"""Which probes lose how much: a histogram and a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecmigrate.report.formatting import count, counted, percent
from vecmigrate.report.plots.calibration import spread
from vecmigrate.report.plots.canvas import (
    DOT,
    LOSSES,
    ONE,
    PAPER,
    Plot,
    draw,
    legend_above,
    mark_mean,
)
from vecmigrate.report.schema import ProbeLoss

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PROBES = 1200
MOST_DOCUMENTS = 2500

# Upper and lower end of each class of recall@10, from no loss to all lost.
_CLASSES = ((1.0, 0.95), (0.95, 0.75), (0.75, 0.45), (0.45, 0.15), (0.15, -0.01))
_CLASS_NAMES = ("1", "0.8 to 0.9", "0.5 to 0.7", "0.2 to 0.4", "0 to 0.1")
_NEIGHBOURS = 10


def loss_histogram(losses: list[ProbeLoss]) -> Plot:
    """How many probes have which recall@10; ``losses`` not empty."""
    recalls = np.array([loss.recall_at_10 for loss in losses])
    edges = np.linspace(-0.05, 1.05, 12)
    counts = np.histogram(recalls, edges)[0]
    shares = counts / len(recalls)

    def paint(axes: Axes) -> None:
        axes.bar(np.arange(11) / 10, shares * 100, width=0.085, color=ONE.colour)
        mark_mean(axes, float(recalls.mean()))
        axes.set_xticks(np.arange(0, 1.01, 0.2))
        axes.set_xlabel("recall@10 of a probe")
        axes.set_ylabel("% of the probes")
        axes.grid(visible=False, axis="x")
        axes.locator_params(axis="y", nbins=6, integer=True)
        legend_above(axes, columns=1)

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


def loss_map(losses: list[ProbeLoss], corpus: list[tuple[float, float]]) -> Plot:
    """Probes on the 2-D map by recall@10, documents behind; ``losses`` not empty."""
    places = np.array([(loss.x, loss.y) for loss in losses])
    recalls = np.array([loss.recall_at_10 for loss in losses])
    classes = _class_of(recalls)
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


def _class_of(recalls: np.ndarray) -> np.ndarray:
    lower = np.array([low for _, low in _CLASSES])
    return np.asarray((recalls[:, None] < lower[None, :]).sum(axis=1).clip(0, len(_CLASSES) - 1))


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
