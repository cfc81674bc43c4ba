"""Devices of torch, which is imported when one is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vecmigrate.errors import MissingDependencyError, UsageError, reason_of

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""There if the driver of an Nvidia GPU, of WSL's, or of an AMD one is loaded."""


def find_gpu() -> str | None:
    """Return torch's name of a GPU that it can use; without a driver torch is not even loaded."""
    if not any(Path(driver).exists() for driver in _DRIVERS) or find_spec("torch") is None:
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None


def require_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises
    ------
    MissingDependencyError
        If there is no torch.
    UsageError
        If it does not.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            f"the device {device!r} needs torch: {reason_of(error)}",
            remedy="Run: pip install 'vecmigrate[encode]'",
        ) from error
    try:
        torch.empty(1, device=device)
    # A torch built without CUDA answers with an assertion.
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"torch has no device {device!r}: {reason_of(error)}",
            remedy="Name cpu, or one that this machine has.",
        ) from error
