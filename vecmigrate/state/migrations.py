"""Migrations in progress: what each belongs to, and how far it has come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from vecmigrate.connector.addresses import canonical_uri, former_uri
from vecmigrate.errors import MismatchError
from vecmigrate.points.batch import PointId
from vecmigrate.points.collection import EncoderIdentity, Provenance, same_form
from vecmigrate.state.file import StateTable


class MigrationStatus(StrEnum):
    """How far a job has come."""

    RUNNING = "running"
    PUBLISHING = "publishing"
    DONE = "done"


class EncodingInputs(BaseModel, frozen=True):
    """What a job that embeds texts was begun with.

    Attributes
    ----------
    share, order, queries
        Which points get the encoder's own vectors; the last is a file's SHA-256. None for all.
    """

    encoder: EncoderIdentity
    on_missing_text: str
    share: str | None = None
    order: str | None = None
    queries: str | None = None

    def differences(self, other: EncodingInputs) -> list[str]:
        """Say what is not the same in the other."""
        names = {
            "encoder": "another encoder",
            "on_missing_text": "another --on-missing-text",
            "share": "another --reembed",
            "order": "another --order",
            "queries": "other --queries",
        }
        return [said for name, said in names.items() if getattr(self, name) != getattr(other, name)]


class JobInputs(BaseModel):
    """What a job was begun with; it is continued with the same alone.

    Attributes
    ----------
    source_fingerprint
        See :meth:`Source.fingerprint`.
    translator, kept_anchors
        SHA-256 of the translator's file and of the vectors kept; of no translator "".
    encoding
        What texts are embedded by; None if they are not.
    """

    source_fingerprint: str
    translator: str
    kept_anchors: str | None
    on_bad_vector: str
    source_encoder: str | None
    encoding: EncodingInputs | None = None

    @model_serializer(mode="wrap")
    def _told(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = serialize(self)
        if self.encoding is None:
            # As versions know it that had no such field.
            del told["encoding"]
        return told

    def differences(self, other: JobInputs) -> list[str]:
        """Say what is not the same in the other."""
        comparable = same_form(self.source_fingerprint, other.source_fingerprint)
        names = {
            "source_fingerprint": "the source has changed"
            if comparable
            else "another version of vecmigrate, whose signs of a change are others",
            "translator": "another translator",
            "kept_anchors": "other anchors to keep",
            "on_bad_vector": "another --on-bad-vector",
            "source_encoder": "another --source-encoder",
        }
        told = [said for name, said in names.items() if getattr(self, name) != getattr(other, name)]
        if self.encoding is None or other.encoding is None:
            return told if self.encoding == other.encoding else [*told, "an encoder, or none"]
        return told + self.encoding.differences(other.encoding)


class MigrationRecord(BaseModel):
    """A migration.

    Attributes
    ----------
    provenance
        What the target is given; its date tells this job's target from any other.
    token
        The sink's checkpoint; None before the first, and from a sink that cannot be continued.
    cursor
        The source's, of the last point that the checkpoint holds.
    written, id_total
        The fingerprint of the ids written so far.
    ledger
        True if the ledger has known of all of these from the first one on.
    """

    source: str
    target: str
    belongings: JobInputs
    provenance: Provenance
    status: MigrationStatus = MigrationStatus.RUNNING
    token: str | None = None
    cursor: str | None = None
    written: int = 0
    id_total: int = 0
    ledger: bool = False
    kept_anchors: int = 0
    skipped_ids: list[PointId] = []

    @property
    def key(self) -> str:
        """What names the job."""
        return job_key(self.source, self.target)

    @property
    def work(self) -> str:
        """What tells a job from one of the same collections with other belongings."""
        told = f"{canonical_uri(self.source)}\0{self.belongings.model_dump_json()}"
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()

    def differences(self, belongings: JobInputs) -> list[str]:
        """Say what keeps this job from being continued with other things.

        Another policy for points to be left out does not, as long as there were none.
        """
        began = self.belongings
        if not self.skipped_ids:
            began = began.model_copy(update={"on_bad_vector": belongings.on_bad_vector})
            if began.encoding is not None and belongings.encoding is not None:
                policy = {"on_missing_text": belongings.encoding.on_missing_text}
                encoding = began.encoding.model_copy(update=policy)
                began = began.model_copy(update={"encoding": encoding})
        return began.differences(belongings)


def job_key(source: str, target: str, spelling: Callable[[str], str] = canonical_uri) -> str:
    """Name the job that moves ``source`` to ``target``, the same from any directory."""
    both = "\0".join(map(spelling, (source, target)))
    return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()


class MigrationTable(StateTable):
    """The jobs that a state file knows of."""

    name = "jobs"
    columns = (
        "key TEXT PRIMARY KEY, source TEXT NOT NULL, target TEXT NOT NULL, "
        "updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, job TEXT NOT NULL"
    )

    def find(self, source: str, target: str) -> MigrationRecord | None:
        """Return the job, or None if it was never begun.

        Raises
        ------
        MismatchError
            If another version of vecmigrate wrote it.
        """
        key, former = (job_key(source, target, by) for by in (canonical_uri, former_uri))
        rows = self._rows("job", "key = ?", key) or self._rows("job", "key = ?", former)
        try:
            return MigrationRecord.model_validate_json(rows[0][0]) if rows else None
        except ValueError as error:
            raise MismatchError(
                f"the record of {source} to {target} is of another version",
                remedy="Start over with --restart.",
            ) from error

    def all(self) -> list[tuple[str, MigrationRecord]]:
        """Return the jobs with their keys; without those of another version of vecmigrate.

        A job whose key is not :attr:`MigrationRecord.key` was begun in another directory, and
        names its collections from there.
        """
        found = []
        for key, job in self._rows("key, job", "TRUE ORDER BY rowid"):
            with suppress(ValueError):
                found.append((str(key), MigrationRecord.model_validate_json(job)))
        return found

    def save(self, job: MigrationRecord) -> None:
        """Store how far a job has come; on the disk when this returns."""
        self._put(key=job.key, source=job.source, target=job.target, job=job.model_dump_json())

    def forget(self, source: str, target: str) -> None:
        """Remove a job's record."""
        with self._transaction() as begun:
            for spelling in (canonical_uri, former_uri):
                begun.execute(
                    "DELETE FROM jobs WHERE key = ?", (job_key(source, target, spelling),)
                )
