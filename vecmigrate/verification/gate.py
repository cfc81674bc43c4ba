"""Whether a collection was verified as it is now."""

from __future__ import annotations

from vecmigrate.connector.addresses import followed_place
from vecmigrate.errors import NotVerifiedError
from vecmigrate.verification.fingerprint import fingerprint_of
from vecmigrate.verification.log import Kept, VerificationLog


def require_verified(log: VerificationLog, collection: str) -> Kept:
    """Return the verification that a collection rests on.

    Raises
    ------
    NotVerifiedError
        Where there is none, the last one failed, or the collection changed since.
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
