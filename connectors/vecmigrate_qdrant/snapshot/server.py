"""Has a server make a snapshot, downloads it and removes it there, after a kill too."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import tenacity
from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from vecmigrate.connector import (
    InputError,
    UnreachableError,
    UsageError,
    VecmigrateError,
    replace_text,
)
from vecmigrate_qdrant.location import ServerLocation
from vecmigrate_qdrant.server.access import api_key, key_hint
from vecmigrate_qdrant.snapshot.archive import check_room
from vecmigrate_qdrant.snapshot.scratch import Scratch, stale

RECORD, FILE = "made.json", "made.snapshot"
# A snapshot's name tells when the server began it, which is once it is asked.
BEGINS_WITHIN = timedelta(seconds=3)
# A server that does not tell what it is making is asked for as long as this.
_MADE_WITHIN = timedelta(days=1)
_PASSING = {429, 502, 503, 504}
_BEGUN = re.compile(r"-(\d{4}(?:-\d\d){5})\.snapshot$")
_SNAPSHOTS = TypeAdapter(list[models.SnapshotDescription])
T = TypeVar("T")

_LEFT = "a snapshot that a killed run made may be left at its server: %s"
_log = logging.getLogger("vecmigrate.qdrant")
_retried = tenacity.retry(
    retry=tenacity.retry_if_exception_type(UnreachableError),
    stop=tenacity.stop_after_attempt(4),
    wait=tenacity.wait_exponential(multiplier=0.5, max=15),
    reraise=True,
)


def take_snapshot(location: ServerLocation, scratch: Scratch) -> Path:
    """Return the file of a new snapshot of a collection, which is gone from its server by then.

    Raises
    ------
    InputError
        If the server refuses, there is no room, or the file is not what the server made.
    UnreachableError
        If the server does not answer.
    """
    with _Snapshots(location) as server:
        try:
            made = _make(server, scratch)
            try:
                # The file, and what is unpacked of it.
                check_room(scratch.path, 2 * made.size, f"a snapshot of {server.where}")
                server.download(made, scratch.path / FILE)
            finally:
                server.delete(made.name)
        except InputError:
            raise
        except BaseException:
            if (scratch.path / RECORD).exists():
                # What is left at the server is for the next run to remove.
                (scratch.path / FILE).unlink(missing_ok=True)
                scratch.keep()
            raise
        (scratch.path / RECORD).unlink()
        return scratch.path / FILE


def _make(server: _Snapshots, scratch: Scratch) -> models.SnapshotDescription:
    """Make a snapshot; what a kill leaves of it is told by a record in the folder."""
    before, now = server.list()
    record = {
        "location": asdict(server.location),
        "before": [found.name for found in before],
        "asked": now.isoformat(),
        "name": None,
    }
    replace_text(scratch.path / RECORD, json.dumps(record))
    made = server.create()
    replace_text(scratch.path / RECORD, json.dumps({**record, "name": made.name}))
    return made


def remove_leftovers() -> bool:
    """Remove the snapshots that killed processes left at servers, and their files here.

    Returns
    -------
    bool
        True if a server is still making one, which it is too early to remove.
    """
    # The latest first: its snapshot cannot be an earlier run's.
    found = sorted(
        ((scratch, _recorded(scratch)) for scratch in stale()),
        key=lambda each: str((each[1] or {}).get("asked")),
        reverse=True,
    )
    waiting = [scratch for scratch, record in found if not _settle(scratch, record)]
    return bool(waiting)


def _recorded(scratch: Scratch) -> dict[str, Any] | None:
    try:
        record = json.loads((scratch.path / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _settle(scratch: Scratch, record: dict[str, Any] | None) -> bool:
    """Remove a killed run's folder, and what its record tells of; False if it is too early."""
    is_made = True
    try:
        is_made = record is None or _remove(record)
    except UnreachableError as error:
        # A later run may be more lucky, by the record.
        (scratch.path / FILE).unlink(missing_ok=True)
        scratch.keep()
        _log.warning(_LEFT, error)
    except (VecmigrateError, ValueError, KeyError, TypeError) as error:
        _log.warning(_LEFT, error)
    if not is_made:
        scratch.keep()
    scratch.close()
    return is_made


def _remove(record: dict[str, Any]) -> bool:
    """Remove a killed run's snapshot from its server; False if it is still being made there."""
    with _Snapshots(ServerLocation(**record["location"])) as server:
        asked = datetime.fromisoformat(record["asked"])
        # Asked first, so that none is missed that is finished in between.
        is_making = record["name"] is None and server.is_making(asked)
        found = [each.name for each in server.list()[0]]
        ours = [record["name"]]
        if record["name"] is None:
            ours = [n for n in found if n not in record["before"] and _begun_at(n, asked)]
        if len(ours) > 1:
            # It is not known which was ours, and the others are somebody's.
            _log.warning(_LEFT, f"{server.where}, one of {', '.join(ours)}")
            return True
        for name in set(ours) & set(found):
            server.delete(name)
            _log.warning("removed %s, which a killed run left at %s", name, server.where)
        return bool(ours) or not is_making


def _begun_at(name: str, asked: datetime) -> bool:
    match = _BEGUN.search(name)
    if match is None:
        return False
    begun = datetime.strptime(match[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    # Both are of whole seconds.
    return asked - timedelta(seconds=1) <= begun <= asked + BEGINS_WITHIN


class _Snapshots:
    """The snapshots of a collection at a server."""

    def __init__(self, location: ServerLocation) -> None:
        self.location = location
        self.where = f"{location}/{location.collection}"
        key = api_key(location)
        self._client = httpx.Client(
            headers={} if key is None else {"api-key": key},
            timeout=httpx.Timeout(location.timeout, connect=10),
        )
        self._url = f"{location}/collections/{quote(location.collection, safe='')}/snapshots"

    def __enter__(self) -> _Snapshots:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @_retried
    def list(self) -> tuple[list[models.SnapshotDescription], datetime]:
        """Return the snapshots there are, and the time of the server's clock."""
        answer = self._ask("GET", self._url)
        told = answer.headers.get("date")
        now = parsedate_to_datetime(told) if told else datetime.now(UTC)
        return self._parsed(answer, _SNAPSHOTS.validate_python), now

    def is_making(self, asked: datetime) -> bool:
        """Tell whether a snapshot that was asked for may still be in the making."""
        try:
            answer = self._ask("GET", f"{self.location}/telemetry?details_level=2")
            told = answer.json()["result"]["collections"]["snapshots"]
            # By the names of collections, of which ours may be an alias.
            return any(each["running_snapshots"] for each in told)
        except (InputError, ValueError, KeyError, TypeError):
            return datetime.now(UTC) - asked < _MADE_WITHIN

    def create(self) -> models.SnapshotDescription:
        """Make a snapshot, however long the server takes."""
        answer = self._ask("POST", self._url, timeout=httpx.Timeout(None, connect=10))
        return self._parsed(answer, models.SnapshotDescription.model_validate)

    @_retried
    def delete(self, name: str) -> None:
        """Remove a snapshot; one that is not there is as good."""
        self._ask("DELETE", f"{self._url}/{quote(name, safe='')}", allowed=(404,))

    @_retried
    def download(self, made: models.SnapshotDescription, file: Path) -> None:
        """Download a snapshot, and make sure that it came whole."""
        digest = hashlib.sha256()
        url = f"{self._url}/{quote(made.name, safe='')}"
        try:
            with self._client.stream("GET", url) as answer, file.open("wb") as out:
                if answer.is_error:
                    answer.read()
                self._check(answer)
                for chunk in answer.iter_bytes(2**20):
                    digest.update(chunk)
                    out.write(chunk)
                size = out.tell()
        except httpx.HTTPError as error:
            raise self._gone(error) from error
        if size != made.size or made.checksum not in (None, digest.hexdigest()):
            raise InputError(
                f"the snapshot {made.name} of {self.where} did not arrive as the server made it",
                remedy="Run this again; if it persists, see the server's disk and log.",
            )

    def _ask(
        self, method: str, url: str, *, allowed: tuple[int, ...] = (), **options: Any
    ) -> httpx.Response:
        try:
            answer = self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise self._gone(error) from error
        if answer.status_code not in allowed:
            self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        if answer.status_code in _PASSING:
            raise self._gone(answer.status_code)
        if answer.status_code in (401, 403):
            raise InputError(
                f"the Qdrant server {self.location} denies access to the snapshots of "
                f"{self.location.collection!r}",
                remedy=key_hint(self.location),
            )
        try:
            said = answer.json()["status"]["error"]
        except (ValueError, KeyError, TypeError):
            said = answer.reason_phrase
        raise InputError(
            f"{self.where} gives no snapshot (HTTP {answer.status_code}: {said})",
            remedy="Check the collection's name; of a cluster, ask a node that has all its shards.",
        )

    def _parsed(self, answer: httpx.Response, parse: Callable[[Any], T]) -> T:
        try:
            return parse(answer.json()["result"])
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise UsageError(
                f"{self.location} does not answer as a Qdrant server",
                remedy="Check host and port; the REST port is 6333 by default.",
            ) from error

    def _gone(self, error: object) -> UnreachableError:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return UnreachableError(
            f"the Qdrant server {self.location} does not answer ({said})",
            remedy="Check that it runs and that host and port are right, then run this again.",
        )
