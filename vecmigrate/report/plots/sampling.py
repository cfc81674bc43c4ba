"""Fewer points where there are too many to draw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread(total: int, most: int) -> NDArray[np.intp]:
    """``(min(total, most),)`` positions, evenly spread over ``range(total)``."""
    if total <= most:
        return np.arange(total)
    return np.linspace(0, total - 1, most).round().astype(np.intp)
