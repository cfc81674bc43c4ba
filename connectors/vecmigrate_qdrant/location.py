"""Reads a URI: which collection, where, and how to reach it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from vecmigrate.connector import StoreURI, UsageError, told_as

DEFAULT_PORT = 6333
DEFAULT_GRPC_PORT = 6334
DEFAULT_READERS = 4
DEFAULT_KEY_VARIABLE = "QDRANT_API_KEY"

VECTOR, IN_PLACE = "vector", "in_place"
_COMMON_OPTIONS = (VECTOR, "text", IN_PLACE)
REACHING = ("grpc", "grpc_port", "timeout", "retries", "readers", "api_key_env")
"""Options of a server's URI that say how it is reached."""
_SERVER_OPTIONS = (*_COMMON_OPTIONS, *REACHING)
_SECRET_OPTIONS = ("api_key", "apikey", "api-key", "key", "token", "password")
_SECRET_REMEDY = (
    f"Put the API key into the environment variable {DEFAULT_KEY_VARIABLE}, or into one that "
    "?api_key_env=NAME names."
)


@dataclass(frozen=True, slots=True)
class EmbeddedLocation:
    """A collection in a directory that qdrant-client serves inside this process."""

    directory: Path
    collection: str


@dataclass(frozen=True, slots=True)
class ServerLocation:
    """A collection on a server.

    Attributes
    ----------
    prefix
        Path before Qdrant's own, percent-encoded, as ``/search/eu``; or "".
    grpc
        True or False as asked for; None to use it if the server offers it.
    grpc_port
        None if the URI names none.
    timeout
        Seconds for one request.
    retries
        How often a request that met a passing fault is sent again.
    readers
        How many requests read a collection at once.
    api_key_env
        The environment variable that the URI names, else None.
    """

    host: str
    port: int
    https: bool
    prefix: str
    collection: str
    grpc: bool | None
    grpc_port: int | None
    timeout: int
    retries: int
    readers: int
    api_key_env: str | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.https else ''}://{host}:{self.port}{self.prefix}"


def parse_location(uri: StoreURI) -> EmbeddedLocation | ServerLocation:
    """Tell where a collection is.

    Raises
    ------
    UsageError
        If the URI or one of its options is not understood, or holds a secret.
    """
    for name in uri.options:
        if name.lower() in _SECRET_OPTIONS:
            # Not the usual message for an unknown option: that one would print the secret.
            raise UsageError(f"a qdrant URI holds a secret ({name})", remedy=_SECRET_REMEDY)
    if uri.location.startswith("//"):
        return _server(uri)
    if uri.transport:
        raise UsageError(
            f"'{uri}' names no host", remedy=f"Write qdrant+{uri.transport}://HOST/COLLECTION."
        )
    uri.check_options(_COMMON_OPTIONS)
    directory, slash, collection = uri.location.rstrip("/").rpartition("/")
    if not slash or not collection:
        raise UsageError(
            f"'{uri}' names no collection in a directory",
            remedy="Write qdrant:DIRECTORY/COLLECTION, or qdrant://HOST/COLLECTION for a server.",
        )
    return EmbeddedLocation(Path(directory or "/"), collection)


def is_in_place(uri: StoreURI) -> bool:
    """Tell whether a target is a vector to add to a collection that is there.

    Raises
    ------
    UsageError
        If the option is neither true nor false.
    """
    return bool(_boolean(uri, IN_PLACE))


def _server(uri: StoreURI) -> ServerLocation:
    if "@" in uri.location.removeprefix("//").partition("/")[0]:
        raise UsageError("a qdrant URI holds a user name or token", remedy=_SECRET_REMEDY)
    if uri.transport not in ("", "https"):
        raise UsageError(
            f"'{uri}': there is no transport {uri.transport!r}",
            remedy="Write qdrant://... for plain HTTP or qdrant+https://... for TLS.",
        )
    uri.check_options(_SERVER_OPTIONS)
    authority, prefix, collection = _split(uri)
    unusable, remedy = (
        f"'{uri}' has no usable host and port",
        "Write qdrant://HOST:PORT/COLLECTION.",
    )
    with told_as(UsageError, unusable, remedy, (ValueError,)):
        address = urlsplit(f"//{authority}")
        host, port = address.hostname, address.port
    if not host or not collection:
        raise UsageError(
            f"'{uri}' does not name a host and a collection",
            remedy="Write qdrant://HOST:PORT/COLLECTION, or qdrant:DIRECTORY/COLLECTION.",
        )
    grpc = _boolean(uri, "grpc")
    if prefix and (grpc or "grpc_port" in uri.options):
        raise UsageError(
            f"'{uri}' asks for gRPC, which knows no path, and has the path prefix {prefix}",
            remedy="Leave out ?grpc= and ?grpc_port=, or name the server without a prefix.",
        )
    return ServerLocation(
        host=host,
        port=port or DEFAULT_PORT,
        https=uri.transport == "https",
        prefix=prefix,
        collection=collection,
        grpc=grpc,
        grpc_port=_integer(uri, "grpc_port", 1, 65535),
        timeout=_integer(uri, "timeout", 1, 86400) or 60,
        retries=6 if (retries := _integer(uri, "retries", 0, 100)) is None else retries,
        readers=_integer(uri, "readers", 1, 64) or DEFAULT_READERS,
        api_key_env=uri.options.get("api_key_env"),
    )


def _split(uri: StoreURI) -> tuple[str, str, str]:
    """Return host and port, the path prefix, and the collection's name."""
    # Decoded, a slash of a name could not be told from one between names.
    written = uri.text.partition(":")[2].partition("?")[0]
    authority, _, path = written.removeprefix("//").partition("/")
    *before, collection = path.strip("/").split("/")
    prefix = "".join(f"/{quote(unquote(part), safe='')}" for part in before if part)
    return authority, prefix, unquote(collection)


def _boolean(uri: StoreURI, name: str) -> bool | None:
    value = uri.options.get(name)
    if value is None:
        return None
    if value not in ("true", "false"):
        raise UsageError(f"'{uri}': {name}={value}", remedy=f"Give {name}=true or {name}=false.")
    return value == "true"


def _integer(uri: StoreURI, name: str, least: int, most: int) -> int | None:
    value = uri.options.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
        raise UsageError(
            f"'{uri}': {name}={value}", remedy=f"Give a whole number from {least} to {most}."
        )
    return int(value)
