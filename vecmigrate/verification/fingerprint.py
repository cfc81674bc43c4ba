"""What a collection is now: told cheaply, or by reading all of it."""

from __future__ import annotations

from vecmigrate.connector.registry import open_source
from vecmigrate.points.checksums import Tally
from vecmigrate.points.screening import OnBadVector, Skipped
from vecmigrate.runtime.threads import prefetch
from vecmigrate.verification.reading import read_points, screened
from vecmigrate.verification.settings import Progress


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
