"""URIs of Qdrant collections that cannot be understood, or that must not be repeated."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from vecmigrate_qdrant.location import EmbeddedLocation, ServerLocation, parse_location
from vecmigrate_qdrant.server.access import api_key

from vecmigrate import open_source
from vecmigrate.connector import UsageError, parse_uri
from vecmigrate.connector.addresses import collection_of


@pytest.mark.parametrize(
    "uri",
    [
        "qdrant:collection",
        "qdrant:/",
        "qdrant://host",
        "qdrant://host/",
        "qdrant:///directory/collection",
        "qdrant://host/a/b?grpc=true",
        "qdrant://host/a/b?grpc_port=6334",
        "qdrant://host:port/collection",
        "qdrant://host:99999/collection",
        "qdrant+ftp://host/collection",
        "qdrant+https:directory/collection",
        "qdrant:directory/collection?grpc=true",
        "qdrant:directory/collection?nonsense=1",
        "qdrant://host/collection?nonsense=1",
        "qdrant://host/collection?grpc=yes",
        "qdrant://host/collection?timeout=0",
        "qdrant://host/collection?timeout=1.5",
        "qdrant://host/collection?retries=-1",
        "qdrant://host/collection?grpc_port=70000",
    ],
)
def test_what_is_not_understood_is_one_clear_error(uri: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_source(uri)
    assert uri in str(raised.value)


@pytest.mark.parametrize(
    "uri",
    [
        "qdrant://host/collection?api_key=s3cr3t",
        "qdrant://host/collection?API_KEY=s3cr3t",
        "qdrant:directory/collection?token=s3cr3t",
        "qdrant://s3cr3t@host/collection",
        "qdrant://user:s3cr3t@host/collection",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_source(uri)
    assert "s3cr3t" not in str(raised.value)
    assert "environment" in str(raised.value)


def test_embedded_locations() -> None:
    found = parse_location(parse_uri("qdrant:some/dir/old%20docs"))
    assert isinstance(found, EmbeddedLocation)
    assert (str(found.directory), found.collection) == ("some/dir", "old docs")


def server(uri: str) -> ServerLocation:
    found = parse_location(parse_uri(uri))
    assert isinstance(found, ServerLocation)
    return found


def test_server_locations() -> None:
    plain = server("qdrant://host/docs")
    assert (str(plain), plain.collection, plain.grpc) == ("http://host:6333", "docs", None)
    cloud = server("qdrant+https://x.cloud.qdrant.io:443/docs?grpc=true&grpc_port=444&timeout=9")
    assert str(cloud) == "https://x.cloud.qdrant.io:443"
    assert (cloud.grpc, cloud.grpc_port, cloud.timeout) == (True, 444, 9)
    assert str(server("qdrant://[::1]:7000/docs")) == "http://[::1]:7000"
    assert server("qdrant://host/docs?retries=0").retries == 0


@pytest.mark.parametrize(
    ("uri", "place", "collection"),
    [
        ("qdrant+https://host:443/search/eu/docs", "https://host:443/search/eu", "docs"),
        ("qdrant://host/search/docs/?grpc=false", "http://host:6333/search", "docs"),
        ("qdrant://host/a%2Fb/old%20docs", "http://host:6333/a%2Fb", "old docs"),
        ("qdrant://host/suche/%C3%BCber%2Funter", "http://host:6333/suche", "über/unter"),
        ("qdrant://host/süd/docs%3F100%25", "http://host:6333/s%C3%BCd", "docs?100%"),
        ("qdrant://host/old docs", "http://host:6333", "old docs"),
    ],
)
def test_a_path_before_the_collection_is_the_servers_prefix(
    uri: str, place: str, collection: str
) -> None:
    found = server(uri)
    assert (str(found), found.collection) == (place, collection)
    again = collection_of(uri)
    assert server(again) == replace(found, grpc=None)


def test_the_default_key_goes_over_tls_or_to_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "default")
    monkeypatch.setenv("OTHER_KEY", "other")
    assert api_key(server("qdrant+https://host/c")) == "default"
    assert api_key(server("qdrant://localhost/c")) == "default"
    assert api_key(server("qdrant://127.0.0.1/c")) == "default"
    assert api_key(server("qdrant://host/c")) is None
    assert api_key(server("qdrant://host/c?api_key_env=QDRANT_API_KEY")) == "default"
    assert api_key(server("qdrant+https://host/c?api_key_env=OTHER_KEY")) == "other"
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        api_key(server("qdrant://host/c?api_key_env=NO_SUCH_KEY"))


def test_importing_the_connector_does_not_import_the_client() -> None:
    code = "import sys, vecmigrate_qdrant; assert 'qdrant_client' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
