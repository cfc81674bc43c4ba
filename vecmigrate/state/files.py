"""Files that hold points of a source, beside its targets; noted as they are met."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from vecmigrate.connector.addresses import canonical_uri
from vecmigrate.state.file import StateTable, open_state


class FileLog(StateTable):
    """The files and folders that a state file knows of."""

    name = "files"
    columns = "path TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (path, source)"

    def note(self, source: str, *files: object) -> None:
        """Note files or folders that hold points of a source; what is no path is passed over."""
        known = self.of(source)
        for file in files:
            if isinstance(file, str | Path) and (path := Path(file).absolute()) not in known:
                self._put(path=str(path), source=canonical_uri(source))

    def of(self, source: str) -> list[Path]:
        """Return what is noted of a source, in the order of the names."""
        rows = self._rows("path", "source = ? ORDER BY path", canonical_uri(source))
        return [Path(path) for (path,) in rows]


def note_files(state: Path, source: str, *files: object) -> None:
    """As :meth:`FileLog.note`, in a state file that is not open."""
    with closing(open_state(state)) as records:
        FileLog(records).note(source, *files)
