"""Whether a target was written with this translator, from this source."""

from __future__ import annotations

import sqlite3

from vecmigrate.anchors import AnchorSet
from vecmigrate.connector.addresses import collection_of, followed_place
from vecmigrate.connector.registry import origin
from vecmigrate.cutover.records import CutoverLog
from vecmigrate.errors import MismatchError, UsageError, VecmigrateError
from vecmigrate.points.collection import CollectionDescription, Provenance
from vecmigrate.state.ledger import Ledger
from vecmigrate.state.migrations import MigrationTable


def check_belongs(
    source: str,
    target: CollectionDescription,
    translator_sha256: str | None,
    anchors: AnchorSet | None,
    ledger: Ledger,
    state: sqlite3.Connection,
    *,
    source_moved: bool,
) -> bool:
    """Raise :class:`MismatchError` unless all of these made ``target``.

    Returns whether it is on record with which anchors that was.

    Parameters
    ----------
    translator_sha256
        None if an encoder made all of its vectors.
    source_moved
        The source is not where it was when the target was written.
    """
    found = _made_by(target, translator_sha256)
    if followed_place(source) == followed_place(target.uri):
        raise MismatchError(
            f"{source} and {target.uri} are the same collection now",
            remedy="A cutover or rollback has led one of the names there: name the old collection, "
            "or the old vector by ?vector=NAME.",
        )
    job = MigrationTable(state).find(source, target.uri)
    mine = job is not None and job.provenance.run() == found.run()
    if not (
        mine
        or source_moved
        or followed_place(source) in _known_sources(found.source, ledger, state)
    ):
        raise MismatchError(
            f"{target.uri} was written from {found.source}, not from {source}",
            remedy="Name that source; if it is the same collection under another name, add "
            "--source-moved.",
        )
    kept = job.belongings.kept_anchors if mine and job else ledger.fact("anchors")
    if translator_sha256 is None:
        if target.in_place and ledger.fact("source") is None:
            raise MismatchError(
                f"the ledger of {target.uri} is not beside the state file: nothing tells from "
                "which text an encoder made a vector there",
                remedy="Give the --state file that the migration had; if it is lost, delete the "
                "vector and migrate again.",
            )
        return mine
    given = None if anchors is None else anchors.sha256()
    if kept is not None and given != kept:
        raise MismatchError(
            f"{target.uri} was written with {'other' if given else 'kept'} anchors, which set the "
            "scale of translated vectors",
            remedy="Give the same --keep-anchors as to migrate.",
        )
    return mine


def _made_by(target: CollectionDescription, translator_sha256: str | None) -> Provenance:
    """Return what a target says of itself.

    Raises
    ------
    MismatchError
        If it was made otherwise.
    """
    found = target.provenance
    if found is None or not (found.translator_sha256 or found.encoder):
        raise MismatchError(
            f"{target.uri} was not written by vecmigrate migrate with a translator file or an "
            "encoder",
            remedy="Name a collection that it wrote; readers of a name may have been led elsewhere "
            "by a cutover or rollback.",
        )
    if found.translator_sha256 == translator_sha256:
        return found
    if found.translator_sha256 is None:
        raise MismatchError(
            f"the vectors of {target.uri} are all of {found.encoder}",
            remedy="Give that with --encoder, and no translator.",
        )
    if translator_sha256 is None:
        raise MismatchError(
            f"{target.uri} was written with a translator",
            remedy="Give its file with --translator; --encoder may stand beside it.",
        )
    raise MismatchError(
        f"{target.uri} was written with another translator "
        f"({found.translator_sha256[:12]}, not {translator_sha256[:12]})",
        remedy="Give the translator that it was written with.",
    )


def _known_sources(recorded: str, ledger: Ledger, state: sqlite3.Connection) -> set[str]:
    """Return the spellings of where the recorded source is, or was led from by cutovers."""
    known = {ledger.fact("source")}
    for uri in filter(None, (recorded, _origin(recorded))):
        try:
            known.add(followed_place(uri))
            before = [entry.previous for entry in CutoverLog(state).of(collection_of(uri))]
            known |= {followed_place(name) for name in before if name}
        except VecmigrateError:
            # A source that is gone, or in a directory that is not here, has no spelling.
            continue
    return known


def _origin(recorded: str) -> str | None:
    try:
        return origin(recorded)
    except UsageError:
        return None
