"""Whether a collection was verified as it is now."""

from __future__ import annotations

from vecmigrate.connector.addresses import followed_place
from vecmigrate.connector.registry import open_source
from vecmigrate.errors import NotVerifiedError
from vecmigrate.points.checksums import Tally
from vecmigrate.points.screening import OnBadVector, Skipped
from vecmigrate.runtime.threads import prefetch
from vecmigrate.verification.options import Progress
from vecmigrate.verification.read import read_points, screened
from vecmigrate.verification.records import StoredVerification, VerificationLog


def require_verified(log: VerificationLog, collection: str) -> StoredVerification:
    """Return the verification that a collection rests on.

    Raises
    ------
    NotVerifiedError
        If there is none, the last one failed, or the collection changed since.
    """
    kept = log.latest(followed_place(collection))
    if kept is None:
        raise NotVerifiedError(
            f"{collection} has not been verified",
            remedy=f"Run: vecmigrate verify SOURCE {collection} --translator FILE.",
        )
    record = kept.verification
    again = f"vecmigrate verify {record.source} {record.target} --translator FILE"
    if not record.passed:
        failed = ", ".join(check.name for check in record.failures)
        raise NotVerifiedError(
            f"{collection} failed its verification of {record.finished_at} ({failed})",
            remedy=f"Mend it, then run: {again}.",
        )
    if fingerprint_of(collection) != record.target_fingerprint:
        raise NotVerifiedError(
            f"{collection} changed since it was verified at {record.finished_at}",
            remedy=f"Run: {again}.",
        )
    return kept


def contents_of(collection: str, batch_size: int = 4096, progress: Progress | None = None) -> str:
    """Read all of a collection and return the digest of its points, as a verification keeps it.

    Unusable vectors are left out, as a migration leaves them out or refuses them.
    """
    tally = Tally()
    with open_source(collection) as source:
        read = prefetch(read_points(source, batch_size))
        batches = screened(read, source, OnBadVector.SKIP, Skipped())
        for batch in batches:
            tally.add(batch)
            if progress is not None:
                progress(len(batch))
    return tally.digest()


def fingerprint_of(collection: str) -> str:
    """Open a collection and return its fingerprint."""
    with open_source(collection) as source:
        return source.fingerprint()
