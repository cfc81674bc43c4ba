"""TLS: a private authority's certificate, and one that is not accepted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from qdrant_client import models
from support.forked import run_forked
from support.qdrant.loopback.grpc_server import GrpcServer
from support.qdrant.loopback.server import Engine, RestServer
from support.qdrant.places import params
from support.tls_proxy import OPENSSL, Authority, TlsProxy

from vecmigrate.errors import ExitCode

pytestmark = pytest.mark.skipif(
    OPENSSL is None, reason="openssl is absent, which makes certificates"
)

VARIABLES = {"rest": "SSL_CERT_FILE", "grpc": "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"}
WITH_BOTH = {"rest": ["SSL_CERT_FILE"], "grpc": list(VARIABLES.values())}


class Places:
    """Servers behind TLS, by the name in their certificate."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        engine = Engine()
        engine.create("docs", models.CreateCollection(vectors=params()))
        self.authority = Authority(folder)
        self._rest = stack.enter_context(RestServer(engine))
        self._grpc = stack.enter_context(GrpcServer(engine))
        self._stack = stack

    def uri(self, kind: str, options: str, name: str = "IP:127.0.0.1") -> str:
        context = self.authority.context(name)
        rest = self._stack.enter_context(TlsProxy(self._rest.port, context))
        grpc = self._stack.enter_context(TlsProxy(self._grpc.port, context))
        how = "grpc=false" if kind == "rest" else f"grpc_port={grpc.port}"
        return f"qdrant+https://127.0.0.1:{rest.port}/docs?{how}&{options}"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with ExitStack() as stack:
        yield Places(tmp_path_factory.mktemp("tls"), stack)


def inspected(uri: str, trusted: Path | None, variables: list[str]) -> tuple[int, str]:
    """Run a command on its own, since gRPC reads its variable once in a process's life."""
    with pytest.MonkeyPatch.context() as patched:
        for variable in VARIABLES.values():
            patched.delenv(variable, raising=False)
        for variable in variables if trusted is not None else ():
            patched.setenv(variable, str(trusted))
        done = run_forked("-m", "vecmigrate", "inspect", uri, "--json")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_an_authority_of_ones_own_is_trusted_by_its_variable(kind: str, places: Places) -> None:
    code, said = inspected(places.uri(kind, "retries=0"), places.authority.file, WITH_BOTH[kind])
    assert code == ExitCode.OK, said
    assert "does not answer" not in said  # By gRPC, if that was asked for.


@pytest.mark.parametrize("kind", ["rest", "grpc"])
@pytest.mark.parametrize("name", ["IP:127.0.0.1", "DNS:elsewhere.example"])
def test_a_certificate_that_fails_ends_at_once(kind: str, name: str, places: Places) -> None:
    """Whether its authority is unknown or its name another; however often one would try again."""
    trusted = places.authority.file if name.startswith("DNS") else None
    began = time.monotonic()
    code, said = inspected(places.uri(kind, "retries=100", name), trusted, WITH_BOTH[kind])
    assert code == ExitCode.UNREACHABLE, said
    assert "certificate" in said
    assert VARIABLES[kind] in said
    assert time.monotonic() - began < 120


def test_a_port_without_tls_is_told_as_one() -> None:
    engine = Engine()
    with RestServer(engine) as rest, GrpcServer(engine) as grpc:
        for options in ("grpc=false", f"grpc=true&grpc_port={grpc.port}"):
            uri = f"qdrant+https://127.0.0.1:{rest.port}/docs?{options}&retries=100"
            code, said = inspected(uri, None, [])
            assert code == ExitCode.UNREACHABLE, said
            assert "does not speak TLS" in said
