"""Leads readers of an alias to another collection, or to another vector of its points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from qdrant_client import models

from vecmigrate.connector import (
    InputError,
    MismatchError,
    StoreURI,
    Switcher,
    UsageError,
    WriteError,
)
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.access.places import collection_uri
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.describe import count_points, existing_collection
from vecmigrate_qdrant.in_place import remove_vector
from vecmigrate_qdrant.lease import held
from vecmigrate_qdrant.location import (
    IN_PLACE,
    VECTOR,
    EmbeddedLocation,
    ServerLocation,
    is_in_place,
    parse_location,
)
from vecmigrate_qdrant.marks import State, mark_of, vector_marks
from vecmigrate_qdrant.points import UNNAMED, Only, choose_vector, dense_params


class QdrantSwitcher(Switcher):
    """Moves aliases; Qdrant carries out the changes of one request together."""

    def current(self, name: StoreURI) -> str | None:
        location = parse_location(name)
        with closing(open_access(location, refusal=InputError)) as access:
            aliased = access.aliases().get(location.collection)
            if aliased is None and not access.exists(location.collection):
                return None
            collection = aliased or location.collection
            _, question, options = str(name).partition("?")
            found = collection_uri(location, collection) + question + options
            if VECTOR not in name.options or is_in_place(name):
                return found
            added = name.options[VECTOR] in vector_marks(access.info(collection))
            return f"{found}&{IN_PLACE}=true" if added else found

    def check(self, name: StoreURI, target: StoreURI) -> None:
        with self._of_name(name, target) as access:
            self._changes(access, name, target)

    def keep(self, name: StoreURI) -> str | None:
        return self.current(name)

    def switch(self, name: StoreURI, target: StoreURI) -> None:
        with self._of_name(name, target) as access:
            changes = self._changes(access, name, target)
        if not changes:
            return
        with closing(open_access(parse_location(name), refusal=WriteError)) as access:
            access.run(lambda client: client.update_collection_aliases(changes))

    def belongings(self, collection: StoreURI) -> list[str]:
        location = parse_location(collection)
        with closing(open_access(location, refusal=InputError)) as access:
            self._check_droppable(access, collection, location.collection)
            count = count_points(access, location.collection)
            return [f"{access.place}/{location.collection} ({count:,} points)"]

    def drop(self, collection: StoreURI) -> None:
        location = parse_location(collection)
        with closing(open_access(location, refusal=InputError)) as access:
            self._check_droppable(access, collection, location.collection)
        with held(collection), closing(open_access(location, refusal=WriteError)) as access:
            access.run(lambda client: client.delete_collection(location.collection))

    def writing_notes(self, target: StoreURI) -> tuple[str, ...]:
        return (
            "Qdrant answers 200 to a write with wait=false whose vector has a name that is not "
            "there, or wrongly none, and drops it: let writers try one with wait=true first",
        )

    def vector_belongings(self, vector: StoreURI) -> list[str]:
        location = parse_location(vector)
        with closing(open_access(location, refusal=InputError)) as access:
            count = self._having(access, vector, location.collection)
            where = f"{access.place}/{location.collection}"
            return [f"the vector {vector.options[VECTOR]!r} of {where} ({count:,} points have it)"]

    def drop_vector(self, vector: StoreURI) -> None:
        location = parse_location(vector)
        with held(vector), closing(open_access(location, refusal=WriteError)) as access:
            self._having(access, vector, location.collection)
            remove_vector(access, location.collection, vector.options[VECTOR])

    def _having(self, access: Access, uri: StoreURI, collection: str) -> int:
        """Return how many points have a vector that can be removed.

        Raises
        ------
        MismatchError
            If it is the only one, or the unnamed one.
        VectorNotFoundError
            If it is not there.
        """
        info = existing_collection(access, collection)
        name = choose_vector(info.config.params, uri.options.get(VECTOR), str(uri))
        if name == UNNAMED or len(dense_params(info.config.params)) == 1:
            raise MismatchError(
                f"the vector of {uri} is the only one or has no name: Qdrant cannot remove it",
                remedy="Keep it, or migrate to a new collection.",
            )
        return count_points(access, collection, Only(having=name))

    @contextmanager
    def _of_name(self, name: StoreURI, target: StoreURI) -> Iterator[Access]:
        """Open a Qdrant by the key of the name's URI: who may not move an alias does not move it.

        Raises
        ------
        UsageError
            If the target is in another Qdrant.
        """
        location = parse_location(name)
        if _place(location) != _place(parse_location(target)):
            raise UsageError(
                f"{name} and {target} are not in one Qdrant",
                remedy="An alias leads to a collection beside it: name one of the same place.",
            )
        with closing(open_access(location, refusal=InputError)) as access:
            yield access

    def _changes(
        self, access: Access, name: StoreURI, target: StoreURI
    ) -> list[models.AliasOperations]:
        """Return what moves the alias, to be sent as one request; raises as :meth:`check`.

        Nothing if the name is the collection whose points got another vector.
        """
        location, goal = parse_location(name), parse_location(target)
        aliases = access.aliases()
        alias, collection = location.collection, aliases.get(goal.collection, goal.collection)
        itself = alias == collection and is_in_place(target)
        if not itself:
            self._check_alias(access, alias, goal.collection, aliases)
        info = existing_collection(access, collection)
        mark = mark_of(info, target.options.get(VECTOR, UNNAMED))
        if mark is not None and mark.state is State.WRITING:
            raise InputError(
                f"{target} is unfinished: a vecmigrate run is writing it, or was stopped while it "
                "did",
                remedy="Let the migration finish, or run it again.",
            )
        if itself:
            return []
        create = models.CreateAlias(collection_name=collection, alias_name=alias)
        changes: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=create)]
        if alias in aliases:
            delete = models.DeleteAlias(alias_name=alias)
            changes.insert(0, models.DeleteAliasOperation(delete_alias=delete))
        return changes

    def _check_alias(
        self, access: Access, alias: str, collection: str, aliases: dict[str, str]
    ) -> None:
        if alias in aliases or not access.exists(alias):
            return
        if alias == collection:
            raise UsageError(
                f"{access.place}/{alias} is the collection itself, not an alias",
                remedy="Name the alias that readers are to open.",
            )
        raise MismatchError(
            f"{access.place}/{alias} is a collection, not an alias: Qdrant keeps both in one set "
            "of names and renames no collection, so that it cannot be replaced in one step",
            remedy=f"Give a new alias, such as {alias}-live, and let readers open that from now "
            f"on; or delete {alias!r} yourself and run this again: readers fail in between.",
        )

    def _check_droppable(self, access: Access, uri: StoreURI, collection: str) -> None:
        aliases = access.aliases()
        if collection in aliases:
            raise MismatchError(
                f"{uri} is an alias of {aliases[collection]!r}, not a collection",
                remedy="Name the collection itself.",
            )
        existing_collection(access, collection)
        leading = sorted(alias for alias, led in aliases.items() if led == collection)
        if leading:
            raise MismatchError(
                f"readers of the alias {', '.join(map(repr, leading))} get {uri}",
                remedy="Cut them over to another collection first.",
            )


def _place(location: EmbeddedLocation | ServerLocation) -> str:
    if isinstance(location, EmbeddedLocation):
        return str(location.directory.resolve())
    return str(location)
