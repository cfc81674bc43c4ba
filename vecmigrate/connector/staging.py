"""An unfinished target beside its name: begun, left for a later run, continued, published whole."""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vecmigrate.connector.failures import writing
from vecmigrate.connector.lease import Lease, LeaseFile
from vecmigrate.connector.sink import BegunSink
from vecmigrate.errors import LockedError, MismatchError, TargetExistsError, UsageError
from vecmigrate.io.atomic import sync_path
from vecmigrate.points.collection import TargetSpec

_RUN, _WORK, _PUBLISHING = "run", "work", "publishing"
_NOTES = {"lock", _RUN, _WORK}
_OWN = {*_NOTES, _PUBLISHING}
"""Names that no sink gives; versions before had a lock there."""


def staging_folder(target: Path) -> Path:
    """Return where a target is made by default: beside its name, so on the same disk."""
    return target.with_name(f".{target.name}.vecmigrate-staging")


class Staging:
    """A folder in which one run at a time makes a target, which is then renamed.

    A lease lies beside the target, by which other runs, on other machines too, keep away. The
    folder also holds the name of the run and, while files get their names, a note of that. A kill
    at any instruction leaves the whole target or none, and what the next :meth:`begin` or
    :meth:`resume` of the run takes back.

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

    Attributes
    ----------
    warnings
        What a user should know of what was begun anew.
    """

    warnings: tuple[str, ...] = ()

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
        self._work = spec.work
        self._lease = Lease(LeaseFile.beside(target), what)
        self._synced: set[Path] = set()

    def begin(self, *, restart: bool) -> None:
        """Make the folder. What another run left there stays, unless ``restart``.

        What a run of the same :attr:`TargetSpec.work` left is begun anew, with a warning: it comes
        to the same points, and the record of its progress is gone.

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
            self._lease.claim()
            self._refuse(self._target)
            self.path.mkdir(exist_ok=True)
            named = self._name != "" and self._run() == self._name
            if not (restart or named or self._is_bare()):
                self._begin_anew()
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
        if not (finished or self.path.is_dir()):
            raise self._nothing_left()
        with self._letting_go_on_failure():
            try:
                self._lease.claim()
            except LockedError:
                self._refuse(self._target)
                raise
            if not self.path.is_dir():
                self._refuse(self._target)
                raise self._nothing_left()
            mine, bare = self._run() == self._name, self._is_bare()
            if finished and (bare or (mine and self._note.exists())):
                self.discard()
            self._refuse(self._target)
            if not (mine or bare):
                raise self._of_another_run()
            self._take_back()
            self._refuse(*self._beside)
            self._note_run()

    def check(self) -> None:
        """Raise :class:`LockedError` if another run took over, as after this machine was halted."""
        self._lease.check()

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
        self.check()
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
        LockedError
            If another run took over.
        WriteError
        """
        self._lease.check()
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
        self._lease.release()

    def discard(self) -> None:
        """Remove the folder; may be called again, and does nothing after :meth:`suspend`."""
        if not self._lease.is_held:
            self.suspend()
            return
        with suppress(OSError):
            if not os.path.lexists(self._target):
                self._take_back()
            self.clear()
            # Last what tells whose the folder is: a kill must not leave a stranger's.
            for name in ("lock", _PUBLISHING, _WORK, _RUN):
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
        return {path.name for path in self.path.iterdir()} <= _NOTES

    def _run(self) -> str | None:
        return self._noted(_RUN)

    def _noted(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _note_run(self) -> None:
        for name, text in ((_WORK, self._work or ""), (_RUN, self._name)):
            path = self.path / name
            path.write_text(text, encoding="utf-8")
            sync_path(path)
        sync_path(self.path)

    def _begin_anew(self) -> None:
        """Allow that what another run left is begun anew if it did the same work; warn of it."""
        if self._work is None or self._noted(_WORK) != self._work:
            raise self._of_another_run()
        self.warnings += (
            f"{self._left()} of {self._what} are there already, left unfinished by a run that did "
            "the same; they are written again, since the record of its progress is gone",
        )

    def _left(self) -> str:
        """Tell how much an unfinished target holds."""
        sizes = [
            Path(folder, name).stat().st_size
            for folder, _, names in os.walk(self.path)
            for name in names
        ]
        return f"{sum(sizes) / 2**20:,.1f} MiB"

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

    def _nothing_left(self) -> MismatchError:
        return MismatchError(
            f"nothing is left of {self._what}", remedy="Start over with --restart."
        )

    def _of_another_run(self) -> TargetExistsError:
        return TargetExistsError(
            f"{self._what} is there, unfinished, and of another run",
            remedy="Continue that run: repeat its command where it was begun, or with its --state "
            f"file. Or start over with --restart, which throws away {self._left()} that are there.",
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
        self.warnings += self.staging.warnings

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
