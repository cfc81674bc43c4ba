"""Which way a job's target comes to its vectors."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from vecmigrate.encoders.metered import Cost
from vecmigrate.errors import InputError
from vecmigrate.report.file import load_report
from vecmigrate.report.schema import DryRunReport, Route, RouteKind, RouteName
from vecmigrate.state.migrations import JobInputs


class JobRoute(BaseModel, frozen=True):
    """A route as it is taken.

    Attributes
    ----------
    share, order
        Of a mixture: how much is re-embedded, as ``migrate --reembed`` takes it, and in which
        order.
    candidates
        Of two stages: how many a search ranks by their true vectors.
    """

    kind: RouteKind
    share: str | None = None
    order: str | None = None
    candidates: int | None = None

    @property
    def translates(self) -> bool:
        """True if points may be translated."""
        return self.kind is not RouteKind.REEMBED

    @property
    def embeds(self) -> bool:
        """True if texts are embedded for the target."""
        return self.kind in (RouteKind.MIXED, RouteKind.REEMBED)

    def __str__(self) -> str:
        if self.kind is RouteKind.MIXED:
            return f"re-embed {self.share} in order of {self.order}"
        if self.kind is RouteKind.TWO_STAGE:
            return f"translate, and search in two stages of {self.candidates} candidates"
        return "re-embed all" if self.kind is RouteKind.REEMBED else "translate"

    @classmethod
    def of(cls, route: Route) -> JobRoute:
        """Return a route of a dry run's report."""
        share = None if route.share is None else f"{100 * route.share:g}%"
        return cls(kind=route.kind, share=share, order=route.order, candidates=route.candidates)

    @classmethod
    def made(cls, inputs: JobInputs) -> JobRoute:
        """Return the route by which a target was made; of two stages, that it was translated."""
        if inputs.encoding is None:
            return cls(kind=RouteKind.TRANSLATE)
        if inputs.encoding.share is None:
            return cls(kind=RouteKind.REEMBED)
        return cls(kind=RouteKind.MIXED, share=inputs.encoding.share, order=inputs.encoding.order)


class PlannedRoute(BaseModel, frozen=True):
    """The route that a job takes, and why.

    Attributes
    ----------
    embeds
        True if it embeds texts of points; if that is not known, False.
    cost
        What is still to be embedded for it, and how long it takes; None if that is not known.
    """

    route: str
    why: str
    embeds: bool = False
    cost: Cost | None = None


def planned_route(
    asked: RouteName, made: JobRoute | None, report: DryRunReport | None
) -> PlannedRoute:
    """Tell which route a job takes.

    Parameters
    ----------
    made
        The route by which the target was made; None if it was not.
    report
        Of the dry run, if its result holds.
    """
    if made is not None:
        return PlannedRoute(route=str(made), why="the target was made so", embeds=made.embeds)
    routes = None if report is None else report.routes
    if routes is None:
        why = "the dry run chooses" if asked is RouteName.AUTO else "the job says so"
        embeds = asked in (RouteName.MIXED, RouteName.REEMBED)
        return PlannedRoute(route=asked.value, why=why, embeds=embeds)
    choice = routes.choice
    if choice is None:
        return PlannedRoute(route=asked.value, why="no route that it allows meets the gates")
    if asked is not RouteName.AUTO:
        why = f"the cheapest {asked} route that meets the gates"
    elif routes.trifling and choice.kind is RouteKind.REEMBED:
        why = "to embed everything costs less than thinking about it"
    else:
        why = "the cheapest route that meets the gates"
    if not choice.gates:
        why = why.replace(" that meets the gates", "") + ", no gates given"
    taken = JobRoute.of(choice)
    return PlannedRoute(route=str(taken), why=why, embeds=taken.embeds, cost=choice.cost)


def chosen_route(folder: Path) -> Route | None:
    """Return what a dry run in this folder has chosen; None if nothing is there, or was chosen."""
    report = report_in(folder)
    return None if report is None or report.routes is None else report.routes.choice


def report_in(folder: Path) -> DryRunReport | None:
    """Return the report in a dry run's folder; None if there is none that can be read."""
    try:
        return load_report(folder)
    except InputError:
        return None
