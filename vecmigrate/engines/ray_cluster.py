"""A Ray cluster: the one at an address, or one that is started here and ended again."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vecmigrate.errors import MissingDependencyError, UnreachableError, reason_of

LOCAL = "local"
PROBE_SECONDS = 5.0
CAPACITY_SECONDS = 5.0


def import_ray() -> Any:
    """Import Ray.

    Raises
    ------
    MissingDependencyError
    """
    # Ray sends usage reports to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            f"--engine ray needs a package that cannot be imported: {reason_of(error)}",
            remedy="Run: pip install 'vecmigrate[ray]'",
        ) from error
    return ray


def check_address(address: str | None) -> None:
    """Connect to the cluster's port, if one is named: Ray itself would try for many minutes.

    Raises
    ------
    UnreachableError
    """
    address = _named(address)
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


@contextmanager
def joined_cluster(address: str | None, workers: int | None) -> Iterator[Callable[[], int]]:
    """Join a cluster; yield what tells how many tasks are to run at once.

    Parameters
    ----------
    address
        As Ray has it; None for that in RAY_ADDRESS or else a cluster of this machine, ended
        afterwards. A cluster that the process is in already is used, and left as it is.
    workers
        None for as many as there are CPUs.

    Raises
    ------
    UnreachableError
        Where no cluster answers or none can be started.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield _capacity(ray, workers)
        return
    address = _named(address)
    # Ray prints what befalls its workers to standard output, where --json has its one object, and
    # offers no other way to turn that off. What matters comes back as a task's outcome.
    sys.modules["ray._private.worker"].__dict__["_worker_logs_enabled"] = False
    # Ray's own handler of SIGTERM would end the driver before it has saved how far it came.
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address,
            num_cpus=workers if address == LOCAL else None,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreachable(address, error) from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield _capacity(ray, workers)
    finally:
        ray.shutdown()


def _named(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def _unreachable(address: str, error: Exception) -> UnreachableError:
    if address == LOCAL:
        return UnreachableError(
            f"no Ray cluster can be started here: {reason_of(error)}",
            remedy="See /tmp/ray/session_latest/logs, or use --engine local.",
        )
    return UnreachableError(
        f"there is no Ray cluster at {address}: {reason_of(error)}",
        remedy="Check --ray-address and RAY_ADDRESS; without them one is started on this machine.",
    )


def _capacity(ray: Any, workers: int | None) -> Callable[[], int]:
    """Return what tells the CPUs of a cluster whose machines come and go, or ``workers``."""
    if workers is not None:
        return lambda: workers
    cpus, asked = 1, float("-inf")

    def capacity() -> int:
        nonlocal cpus, asked
        if time.monotonic() - asked > CAPACITY_SECONDS:
            cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
            asked = time.monotonic()
        return cpus

    return capacity
