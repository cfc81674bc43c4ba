"""How readers of one collection are led to another."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vecmigrate.connector.uri import StoreURI
from vecmigrate.errors import MismatchError


class Switcher(ABC):
    """Moves the name by which readers open a collection; an optional part of a connector.

    A name is a URI that leads to a collection: an alias, a symbolic link. Every error is raised
    before anything is changed.
    """

    @abstractmethod
    def current(self, name: StoreURI) -> str | None:
        """Return the URI of the collection that a reader of ``name`` gets; None if none is.

        A collection's own URI leads to itself. The same collection has the same URI here, but for
        options, whichever name was asked about. Those are kept; if ``vector`` names a vector that
        was added in place, ``in_place=true`` is among them.

        Raises
        ------
        UsageError, InputError, UnreachableError
        """

    @abstractmethod
    def check(self, name: StoreURI, target: StoreURI) -> None:
        """Raise what would keep :meth:`switch` from doing its work, changing nothing.

        Raises
        ------
        UsageError
            If one of the URIs is not understood, or the two are not in one place.
        InputError
            If ``target`` is not a whole collection.
        MismatchError
            If ``name`` cannot be moved in one step.

        If ``target`` was added in place, ``name`` may be the collection itself.
        """

    @abstractmethod
    def keep(self, name: StoreURI) -> str | None:
        """Give what readers of ``name`` get a URI of its own, and return that; None for nothing.

        It holds after a switch, to go back by. Readers notice nothing. Done before :meth:`switch`
        so that the way back is known before it is needed; a store if collections have names of
        their own has nothing to do but to return :meth:`current`.

        Raises
        ------
        WriteError, UnreachableError
        """

    @abstractmethod
    def switch(self, name: StoreURI, target: StoreURI) -> None:
        """Lead readers of ``name`` to ``target`` in one step; made if it is not there yet.

        A reader that opens ``name`` while this runs, or after it was killed, gets all of the old
        collection or all of the new one. What readers had before is kept.

        Raises
        ------
        UsageError, InputError, MismatchError
            As :meth:`check`.
        WriteError, UnreachableError
            If the store refuses; readers see what they saw.
        """

    @abstractmethod
    def belongings(self, collection: StoreURI) -> list[str]:
        """Name what :meth:`drop` would delete: files, a collection."""

    @abstractmethod
    def drop(self, collection: StoreURI) -> None:
        """Delete a collection that no name leads to.

        Raises
        ------
        MismatchError
            If it is a name, or a name that the store knows of leads to it.
        InputError
            If it is not there.
        LockedError
            If another run changes it now.
        WriteError, UnreachableError
        """

    def writing_notes(self, target: StoreURI) -> tuple[str, ...]:
        """Say what writers to ``target`` should know of how the store takes a wrong vector."""
        return ()

    def vector_belongings(self, vector: StoreURI) -> list[str]:
        """Name what :meth:`drop_vector` would remove.

        Raises
        ------
        MismatchError
            If the store cannot remove the vector.
        InputError
            If it is not there.
        UsageError, UnreachableError
        """
        raise MismatchError(
            f"the store of {vector} removes no vector from its points",
            remedy="Remove it yourself.",
        )

    def drop_vector(self, vector: StoreURI) -> None:
        """Remove one of the vectors of a collection's points, which stay with all else they have.

        Raises
        ------
        MismatchError, InputError, UsageError
            As :meth:`vector_belongings`.
        WriteError, UnreachableError
        """
        self.vector_belongings(vector)
