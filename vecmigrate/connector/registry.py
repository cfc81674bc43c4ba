"""Finds connectors and encoders by their entry points, and opens what a URI names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from typing import Any, cast

from vecmigrate.connector.protocols import (
    Connector,
    ErasingConnector,
    LeasingConnector,
    ResumableConnector,
    SwitchingConnector,
    UpdatableConnector,
)
from vecmigrate.connector.sink import Sink
from vecmigrate.connector.source import Source
from vecmigrate.connector.switcher import Switcher
from vecmigrate.connector.updater import Remnant, Updater
from vecmigrate.connector.uri import StoreURI, parse_uri
from vecmigrate.errors import MismatchError, UsageError
from vecmigrate.points.collection import Provenance, TargetSpec

CONNECTORS = "vecmigrate.connectors"


def plugin_names(group: str) -> list[str]:
    """Names registered in an entry-point group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


@cache
def load_plugin(group: str, name: str) -> Any:
    """Load what is registered as ``name``; looked for once, since that reads every package's files.

    Raises
    ------
    UsageError
        If nothing is, naming what is.
    """
    found = list(entry_points(group=group, name=name))
    if not found:
        raise UsageError(
            f"no {group} plugin is called {name!r}",
            remedy=f"Installed are: {', '.join(plugin_names(group)) or 'none'}.",
        )
    return found[0].load()


def connector_of(uri: str) -> tuple[Any, StoreURI]:
    """Return the connector that a URI's scheme names, and the URI as it takes it.

    Raises
    ------
    UsageError
        If the URI is not understood, or no connector has its scheme.
    """
    parsed = parse_uri(uri)
    return load_plugin(CONNECTORS, parsed.scheme), parsed


def open_source(uri: str) -> Source:
    """Open the collection at ``uri`` for reading; see :meth:`Connector.open_source` for errors."""
    connector, parsed = connector_of(uri)
    return cast(Connector, connector).open_source(parsed)


def open_sink(uri: str, spec: TargetSpec, *, restart: bool = False) -> Sink:
    """Begin a new collection at ``uri``; see :meth:`Connector.open_sink`."""
    connector, parsed = connector_of(uri)
    return cast(Connector, connector).open_sink(parsed, spec, restart=restart)


def resume_sink(uri: str, spec: TargetSpec, token: str) -> Sink:
    """Continue a collection at ``uri``; see :meth:`ResumableConnector.resume_sink`.

    Raises
    ------
    MismatchError
        If the store's connector cannot.
    """
    connector, parsed = connector_of(uri)
    if not isinstance(connector, ResumableConnector):
        raise MismatchError(
            f"the connector {parsed.scheme} cannot continue an unfinished collection",
            remedy="Start over with --restart.",
        )
    return connector.resume_sink(parsed, spec, token)


def open_updater(uri: str, provenance: Provenance | None) -> Updater:
    """Open the collection at ``uri`` for changes; see :meth:`UpdatableConnector.open_updater`.

    Raises
    ------
    UsageError
        If the store's connector cannot change a finished collection.
    """
    connector, parsed = connector_of(uri)
    if not isinstance(connector, UpdatableConnector):
        raise UsageError(
            f"the connector {parsed.scheme} cannot change a finished collection",
            remedy="Migrate again, to a new collection.",
        )
    return connector.open_updater(parsed, provenance)


def erase_deleted(uri: str) -> tuple[Remnant, ...]:
    """Overwrite what is left of deleted points; see :meth:`ErasingConnector.erase_deleted`."""
    connector, parsed = connector_of(uri)
    if isinstance(connector, ErasingConnector):
        return connector.erase_deleted(parsed)
    unknown = f"what the store of {uri} keeps of deleted points, which its connector does not tell"
    return (Remnant(unknown, "See the store's own documentation."),)


@contextmanager
def hold(uri: str) -> Iterator[None]:
    """Keep other runs from the collection at ``uri``; see :meth:`LeasingConnector.held`.

    Of a store whose connector has no leases nothing is kept.
    """
    connector, parsed = connector_of(uri)
    if isinstance(connector, LeasingConnector):
        with connector.held(parsed):
            yield
    else:
        yield


def origin(uri: str) -> str | None:
    """Return the URI of the collection that ``uri`` is a copy of, as a snapshot is, if told."""
    connector, parsed = connector_of(uri)
    return cast(str | None, connector.origin(parsed)) if hasattr(connector, "origin") else None


def find_switcher(uri: str) -> Switcher | None:
    """Return what moves readers of the store that ``uri`` is of; None if nothing does."""
    connector, _ = connector_of(uri)
    return (
        cast(SwitchingConnector, connector).switcher() if hasattr(connector, "switcher") else None
    )


def require_switcher(uri: str) -> Switcher:
    """Return what moves readers of the store that ``uri`` is of.

    Raises
    ------
    UsageError
        If its connector offers nothing.
    """
    switcher = find_switcher(uri)
    if switcher is None:
        raise UsageError(
            f"the connector of {uri} cannot lead readers from one collection to another",
            remedy="Point your readers at the new collection, and delete the old one, yourself.",
        )
    return switcher
