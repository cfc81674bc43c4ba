"""Translators on a GPU: the same products, made by torch, in float32 as on the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vecmigrate.errors import UsageError, reason_of
from vecmigrate.points.batch import Vectors
from vecmigrate.runtime.torch_device import find_gpu, require_device
from vecmigrate.translators.base import AffineTranslator, Translator, check_dimension
from vecmigrate.translators.kernel_ridge import KernelRidge
from vecmigrate.translators.sphere import mean_direction, sphere_factors

if TYPE_CHECKING:
    import torch

    Tensor: TypeAlias = torch.Tensor

CPU = "cpu"
BLOCK_ROWS = 8192
"""Rows translated at a time: it bounds the kernel values that the device has to hold."""

_KNOWN = (AffineTranslator.transform, KernelRidge.transform)

Transform: TypeAlias = Callable[[Vectors], Vectors]


def open_device(asked: str | None) -> str | None:
    """Return torch's name of the device to translate on; None for NumPy on the processor.

    Parameters
    ----------
    asked
        ``cpu`` for NumPy, a device of torch, or None for a GPU if there is one.

    Raises
    ------
    UsageError, MissingDependencyError
        If torch has no such device, or is not installed.
    """
    if asked is None:
        return find_gpu()
    if asked == CPU:
        return None
    require_device(asked)
    return asked


def transform_on(translator: Translator, device: str | None) -> Transform:
    """Return what does as ``translator.transform`` on a device; the parameters are moved there now.

    The outcome is the same but for rounding: within 1e-5 for vectors of unit length.

    Parameters
    ----------
    device
        Torch's name of one that it has; None for NumPy. A translator of a method that is not of
        this package translates by its own means in any case.
    """
    if device is None or not isinstance(translator, (AffineTranslator, KernelRidge)):
        return translator.transform
    if type(translator).transform not in _KNOWN:
        return translator.transform
    import torch

    # TF32 would keep 10 bits of each factor.
    torch.set_float32_matmul_precision("highest")

    def put(array: NDArray[np.floating]) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=device)

    columns = translator.source_dim_ + translator.text_dim_
    with _room_on(device):
        predict = _predictor(translator, put)

    def transform(X: Vectors) -> Vectors:
        check_dimension(X, columns)
        with _room_on(device), torch.inference_mode():
            blocks = [predict(block) for block in torch.split(put(X), BLOCK_ROWS)]
            done = torch.cat(blocks)
            if translator.normalize_output_:
                norms = torch.linalg.vector_norm(done, dim=1, keepdim=True)
                done /= norms.where(norms > 0, 1.0)
            translated: Vectors = done.cpu().numpy()
        return translated

    return transform


@contextmanager
def _room_on(device: str) -> Iterator[None]:
    """Turn what torch says of a device whose memory is full into a :class:`UsageError`."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise UsageError(
            f"the device {device!r} has no memory left: {reason_of(error)}",
            remedy="Give a smaller --batch-size, or --device cpu; the same command continues.",
        ) from error


def _predictor(
    translator: AffineTranslator | KernelRidge, put: Callable[[NDArray[np.floating]], Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the map of tensors, its result not yet of unit length."""
    weights, offset = put(translator.weights_), put(translator.offset_)

    def linear(x: Tensor) -> Tensor:
        return (x @ weights).add_(offset)

    if isinstance(translator, AffineTranslator):
        return linear
    coefficients, centre = put(translator.coefficients_), put(translator.centre_)
    direction = put(mean_direction(translator.centre_))
    length = float(np.linalg.norm(translator.centre_))
    scale = float(translator.scale_ * np.sqrt(translator.gamma))
    landmarks = put(scale * translator.landmarks_)
    squares = landmarks.square().sum(dim=1)

    def predict(x: Tensor) -> Tensor:
        points = scale * x[:, : translator.source_dim_]
        # -|x - z|^2, which rounding can leave a little above 0.
        values = (2 * points) @ landmarks.T
        values -= squares
        values -= points.square().sum(dim=1, keepdim=True)
        values.clamp_(max=0).exp_()
        predicted = (values @ coefficients).add_(linear(x))
        if translator.restores_:
            predicted -= centre
            along = predicted @ direction
            factor, rest = sphere_factors(along, predicted.square().sum(dim=1), length)
            predicted *= factor[:, None]
            predicted += rest[:, None] * direction
        return predicted

    return predict
