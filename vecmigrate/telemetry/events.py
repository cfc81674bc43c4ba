"""What the library tells of its work, through :mod:`logging`: events with named attributes.

An event is a log record whose ``extra`` holds ``event``, its name, and ``attributes``; a connector
sends one so, without a function of ours. The library adds no handlers: whoever runs it does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TypeAlias

Attributes: TypeAlias = Mapping[str, str | int | float | bool | None]
"""By dotted name; None is left out."""

CHECKPOINT = "vecmigrate.checkpoint"
POINTS = "vecmigrate.points"


def log_event(
    logger: logging.Logger,
    level: int,
    event: str,
    body: str,
    attributes: Attributes,
    *,
    error: BaseException | None = None,
) -> None:
    """Log ``body``, a line for a person, with what it is for a machine.

    Parameters
    ----------
    event
        Its name, as ``vecmigrate.checkpoint``.
    error
        If it is given, its traceback is told too.
    """
    told = {name: value for name, value in attributes.items() if value is not None}
    extra = {"event": event, "attributes": told}
    logger.log(level, "%s", body, extra=extra, exc_info=error)


class Steps:
    """Tells of each step of a run how long it took, since the one before."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._begun = time.perf_counter()

    def ended(self, name: str, *, points: int | None = None) -> None:
        """Tell that a step is done."""
        now = time.perf_counter()
        log_event(
            self._logger,
            logging.INFO,
            "vecmigrate.step.ended",
            f"{name} done",
            {
                "vecmigrate.step": name,
                "vecmigrate.seconds": round(now - self._begun, 3),
                POINTS: points,
            },
        )
        self._begun = now
