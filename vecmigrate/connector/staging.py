"""An unfinished target beside its name: begun, left for a later run, continued, published whole."""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vecmigrate.connector.failures import writing
from vecmigrate.connector.sink import BegunSink
from vecmigrate.errors import LockedError, MismatchError, TargetExistsError, UsageError
from vecmigrate.io.atomic import sync_path, take_lock
from vecmigrate.points.collection import TargetSpec

_LOCK, _RUN, _PUBLISHING = "lock", "run", "publishing"
_OWN = {_LOCK, _RUN, _PUBLISHING}


def staging_folder(target: Path) -> Path:
    """Return where a target is made by default: beside its name, so on the same disk."""
    return target.with_name(f".{target.name}.vecmigrate-staging")


class Staging:
    """A folder in which one run at a time makes a target, which is then renamed.

    The folder also holds a lock, which the end of the process releases; the name of the run; and,
    while files get their names, a note of that. A kill at any instruction leaves the whole target
    or none, and what the next :meth:`begin` or :meth:`resume` of the run takes back.

    Parameters
    ----------
    what
        The target in messages: its URI.
    target
        The name that the target gets, of a file or a folder.
    folder
        Default: :func:`staging_folder`; on the disk of ``target``.
    beside
        Names of further files of the target. They get their files before the target gets its name.
    """

    def __init__(
        self,
        what: object,
        target: Path,
        spec: TargetSpec,
        *,
        folder: Path | None = None,
        beside: Sequence[Path] = (),
    ) -> None:
        self.path = folder or staging_folder(target)
        self._what, self._target, self._beside = what, target, list(beside)
        self._name = spec.provenance.run() if spec.provenance else ""
        self._lock: IO[bytes] | None = None
        self._synced: set[Path] = set()

    def begin(self, *, restart: bool) -> None:
        """Make the folder. What another run left there stays, unless ``restart``.

        Raises
        ------
        TargetExistsError
            If the target, or a file beside it, is there; or another run's unfinished target is.
        LockedError
            If another run writes the target now.
        UsageError
            If the folder that the target is to be in does not exist.
        WriteError
        """
        self._refuse(self._target)
        if not self._target.parent.is_dir():
            raise UsageError(
                f"{self._what}: there is no folder {self._target.parent}",
                remedy="Create it first.",
            )
        with self._letting_go_on_failure():
            self.path.mkdir(exist_ok=True)
            self._take_lock()
            named = self._name != "" and self._run() == self._name
            if not (restart or named or self._is_bare()):
                raise self._of_another_run()
            self._take_back()
            self.clear()
            self._note_run()
            try:
                self._refuse(*self._beside)
            except TargetExistsError:
                self.discard()
                raise

    def resume(self) -> None:
        """Find the folder again, with all that is in it.

        Raises
        ------
        TargetExistsError
            If the target is there; what its run left in the folder is removed. If the unfinished
            target is another run's.
        LockedError
            If another run writes the target now.
        MismatchError
            If there is nothing to continue.
        WriteError
        """
        finished = os.path.lexists(self._target)
        if not self.path.is_dir():
            self._refuse(self._target)
            raise MismatchError(
                f"nothing is left of {self._what}", remedy="Start over with --restart."
            )
        with self._letting_go_on_failure():
            try:
                self._take_lock()
            except LockedError:
                self._refuse(self._target)
                raise
            mine, bare = self._run() == self._name, self._is_bare()
            if finished and (bare or (mine and self._note.exists())):
                self.discard()
            self._refuse(self._target)
            if not (mine or bare):
                raise self._of_another_run()
            self._take_back()
            self._refuse(*self._beside)
            self._note_run()

    def files(self) -> Iterator[Path]:
        """Yield what the sink has put into the folder: files and folders."""
        return (path for path in self.path.iterdir() if path.name not in _OWN)

    def clear(self, *, keep: Collection[str] = ()) -> None:
        """Remove what the sink has put into the folder, but for the names in ``keep``."""
        for path in list(self.files()):
            if path.name in keep:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def sync(self) -> None:
        """Bring to the disk what was put into the folder since the last call.

        For a store that changes no file that it has made.

        Raises
        ------
        WriteError
        """
        with writing(self._what):
            for folder, folders, names in os.walk(self.path):
                new = {Path(folder, name) for name in (*folders, *names)} - self._synced
                for path in [*new, Path(folder)] if new else ():
                    sync_path(path)
                self._synced |= new

    def publish(self, made: Path, beside: Iterable[tuple[Path, Path]] = ()) -> None:
        """Give the target its name, in one step, and remove the folder.

        Parameters
        ----------
        made
            The target as it is in the folder, a file or a folder itself; all of it durable.
        beside
            Further files, each with the name that it gets before.

        Raises
        ------
        TargetExistsError
            If another has made one of them meanwhile; nothing has got its name.
        WriteError
        """
        parent = self._target.parent
        with writing(self._what):
            self._refuse(self._target, *self._beside)
            self._note.touch()
            sync_path(self.path)
            given: list[Path] = []
            try:
                for staged, name in beside:
                    give_name(staged, name)
                    given.append(name)
                sync_path(parent)
                give_name(made, self._target)
            except (TargetExistsError, OSError):
                for name in given:
                    name.unlink()
                self._note.unlink()
                raise
            sync_path(parent)
        self.discard()

    def suspend(self) -> None:
        """Leave the folder for a later run; may be called again."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Remove the folder; may be called again, and does nothing after :meth:`suspend`."""
        if self._lock is None:
            return
        with suppress(OSError):
            if not os.path.lexists(self._target):
                self._take_back()
            self.clear()
            # Last what tells whose the folder is: a kill must not leave a stranger's. The lock at
            # the very end: from then on the folder may be another run's.
            for name in (_PUBLISHING, _RUN, _LOCK):
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()
        self.suspend()

    @property
    def _note(self) -> Path:
        """There while files that have their names already may be those of an unfinished target."""
        return self.path / _PUBLISHING

    def _take_back(self) -> None:
        """Remove what a run that was cut short while publishing gave its name already."""
        if self._note.exists():
            for path in self._beside:
                path.unlink(missing_ok=True)
            self._note.unlink()

    def _is_bare(self) -> bool:
        return {path.name for path in self.path.iterdir()} <= {_LOCK, _RUN}

    def _run(self) -> str | None:
        try:
            return (self.path / _RUN).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _note_run(self) -> None:
        path = self.path / _RUN
        path.write_text(self._name, encoding="utf-8")
        sync_path(path)
        sync_path(self.path)

    def _take_lock(self) -> None:
        taken = LockedError(f"another run is writing to {self._what}", remedy="Let it finish.")
        self._lock = take_lock(self.path / _LOCK, taken)

    @contextmanager
    def _letting_go_on_failure(self) -> Iterator[None]:
        try:
            with writing(self._what):
                yield
        except BaseException:
            self.suspend()
            raise

    def _refuse(self, *paths: Path) -> None:
        for path in paths:
            if os.path.lexists(path):
                raise TargetExistsError(
                    f"{self._what}: {path} exists",
                    remedy="Choose another target, or move it away.",
                )

    def _of_another_run(self) -> TargetExistsError:
        return TargetExistsError(
            f"{self._what} is there, unfinished, and of another run",
            remedy="Continue that run: repeat its command where it was begun, or with its --state "
            "file. Or throw it away with --restart.",
        )


class StagedSink(BegunSink):
    """A base for sinks whose target is made in a folder: :attr:`staging`, which ``__init__`` makes.

    What is left to write: ``write``, ``checkpoint``, :meth:`go_back`, and a ``finish`` that ends
    with :meth:`Staging.publish`.
    """

    staging: Staging

    @abstractmethod
    def go_back(self, token: str) -> None:
        """Cut off or remove what came after a checkpoint.

        Raises
        ------
        MismatchError
            If ``token`` is none of this sink's, or what it tells of is not there any more.
        """

    def close(self) -> None:
        """Let go of the files in the folder; called before the folder is left or removed."""

    def begin(self, *, restart: bool) -> None:
        self.staging.begin(restart=restart)

    def resume(self, token: str) -> None:
        self.staging.resume()
        try:
            self.go_back(token)
        except BaseException:
            self.suspend()
            raise

    def suspend(self) -> None:
        self.close()
        self.staging.suspend()

    def abort(self) -> None:
        self.close()
        self.staging.discard()


def give_name(made: Path, name: Path) -> None:
    """Rename, replacing nothing."""
    try:
        if made.is_dir():
            made.rename(name)
            return
        try:
            os.link(made, name)
        except FileExistsError:
            raise
        except OSError:  # no second names on this disk
            made.rename(name)
    except OSError as error:
        if os.path.lexists(name):
            raise TargetExistsError(
                f"{name} was made by another meanwhile", remedy="Choose another target."
            ) from error
        raise
