"""How readers of one collection are led to another."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vecmigrate.uri import StoreURI


class Switcher(ABC):
    """Moves the name by which readers open a collection; an optional part of a connector.

    A name is a URI that leads to a collection: an alias, a symbolic link. Every error is raised
    before anything is changed.
    """

    @abstractmethod
    def spelled(self, uri: StoreURI) -> str:
        """Return the one spelling of a URI without its options, by which two are compared.

        Nothing need be there. Raises :class:`UsageError` where the URI is not understood.
        """

    @abstractmethod
    def current(self, name: StoreURI) -> str | None:
        """Return the URI of the collection that a reader of ``name`` gets; None where none is.

        A collection's own URI leads to itself. The same collection has the same URI here, but for
        options, whichever name was asked about.

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
            Where one of the URIs is not understood, or the two are not in one place.
        InputError
            Where ``target`` is not a whole collection.
        MismatchError
            Where ``name`` cannot be moved in one step.
        """

    @abstractmethod
    def keep(self, name: StoreURI) -> str | None:
        """Give what readers of ``name`` get a URI of its own, and return that; None for nothing.

        It holds after a switch, to go back by. Readers notice nothing. Done before :meth:`switch`
        so that the way back is known before it is needed; a store where collections have names of
        their own has nothing to do but to return :meth:`current`.

        Raises
        ------
        WriteError, UnreachableError
        """

    @abstractmethod
    def switch(self, name: StoreURI, target: StoreURI) -> None:
        """Lead readers of ``name`` to ``target`` in one step; made where it is not there yet.

        A reader that opens ``name`` while this runs, or after it was killed, gets all of the old
        collection or all of the new one. What readers had before is kept.

        Raises
        ------
        UsageError, InputError, MismatchError
            As :meth:`check`.
        WriteError, UnreachableError
            Where the store refuses; readers see what they saw.
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
            Where it is a name, or a name that the store knows of leads to it.
        InputError
            Where it is not there.
        WriteError, UnreachableError
        """
