"""Figures of runs in a file that Prometheus's node_exporter picks up (its textfile collector)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from vecmigrate.errors import InputError, WriteError

LABELS = ("command", "source", "target")
Labels: TypeAlias = tuple[str, str, str]
Figures: TypeAlias = dict[str, float]

RUN, POINTS_TOTAL = "vecmigrate_run_", "vecmigrate_points_"
IN_PROGRESS = f"{RUN}in_progress"
LAST_START = f"{RUN}last_start_timestamp_seconds"
LAST_UPDATE = f"{RUN}last_update_timestamp_seconds"
LAST_END = f"{RUN}last_end_timestamp_seconds"
LAST_SUCCESS = f"{RUN}last_success_timestamp_seconds"
LAST_EXIT_CODE = f"{RUN}last_exit_code"
DURATION = f"{RUN}duration_seconds"

HELP = {
    IN_PROGRESS: "1 from a run's begin to its end; stays 1 if it is killed.",
    LAST_START: "When the last run began.",
    LAST_UPDATE: "Time of the last start, checkpoint or end of the run.",
    LAST_END: "When a run last ended, killed ones left out.",
    LAST_SUCCESS: "When a run last ended with exit code 0.",
    LAST_EXIT_CODE: "Exit code of the last run that ended; see docs/reference/exit-codes.md.",
    DURATION: "How long the last run that ended took.",
}


class MetricsFileWarning(UserWarning):
    """A metrics file that could not be written; the run itself goes on."""


class MetricsFile:
    """Figures by series, one for each command, source and target.

    The file is replaced whole, by a rename; other series in it stay as they are, so that several
    jobs may share it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def update(self, labels: Labels, figures: Mapping[str, float], *, anew: bool = False) -> None:
        """Set figures of one series.

        Parameters
        ----------
        anew
            Forget its points first, those of the run before.

        Raises
        ------
        InputError
            If the file is there and holds anything else.
        WriteError
        """
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

        with self._alone():
            series = self._read()
            own = series.setdefault(labels, {})
            if anew:
                for name in [name for name in own if name.startswith(POINTS_TOTAL)]:
                    del own[name]
            own.update(figures)
            registry = CollectorRegistry()
            for name in sorted({name for own in series.values() for name in own}):
                gauge = Gauge(name, _help(name), LABELS, registry=registry)
                for series_labels, own in series.items():
                    if name in own:
                        gauge.labels(*series_labels).set(own[name])
            write_to_textfile(str(self._path), registry)

    def read(self) -> dict[Labels, Figures]:
        """Return what the file holds, nothing if it is not there.

        Raises
        ------
        InputError, WriteError
            As :meth:`update`.
        """
        with self._alone():
            return self._read()

    def _read(self) -> dict[Labels, Figures]:
        from prometheus_client.parser import text_string_to_metric_families

        if not self._path.exists():
            return {}
        if not self._path.is_file():
            # A device may have no end.
            raise InputError(
                f"{self._path} is no plain file", remedy="Name another with --metrics-file."
            )
        series: dict[Labels, Figures] = {}
        try:
            for family in text_string_to_metric_families(self._path.read_text(encoding="utf-8")):
                for sample in family.samples:
                    if not sample.name.startswith((RUN, POINTS_TOTAL)):
                        raise ValueError(f"it holds {sample.name}")
                    command, source, target = (sample.labels[label] for label in LABELS)
                    own = series.setdefault((command, source, target), {})
                    own[sample.name] = float(sample.value)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{self._path} is not a metrics file of vecmigrate ({error})",
                remedy="Name another with --metrics-file; each program needs its own.",
            ) from error
        return series

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other run come between reading and writing; a lock file would be left behind."""
        try:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)
        except OSError as error:
            raise WriteError(
                f"the metrics file {self._path} cannot be written: {error.strerror or error}",
                remedy="Name a file in a folder that is there and writable, with --metrics-file.",
            ) from error


def _help(name: str) -> str:
    return HELP.get(name) or f"Points {name.removeprefix(POINTS_TOTAL)}, by the last run."
