"""Memory of an index, mapped or not, as arrays."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vecmigrate_faiss.index_kind import FaissIndex

_PAGE = mmap.PAGESIZE
_WILL_NEED = getattr(mmap, "MADV_WILLNEED", None)
_advise = None if _WILL_NEED is None else ctypes.CDLL(None).madvise


class _Held:
    """Memory of an index, with the index that it lives in."""

    def __init__(self, memory: NDArray[Any], owner: FaissIndex) -> None:
        self.__array_interface__ = {
            **memory.__array_interface__,
            "data": (memory.ctypes.data, True),
        }
        self.owner = owner


def view(pointer: Callable[[], Any], count: int, owner: FaissIndex) -> NDArray[Any]:
    """Return a read-only array of ``count`` elements that keeps the index alive."""
    if not count:
        return np.empty(0, dtype=np.int64)
    return np.asarray(_Held(faiss.rev_swig_ptr(pointer(), count), owner))


def aligned(part: NDArray[Any]) -> NDArray[Any]:
    """Return ``part``, or a copy where the file's header put it off a four-byte boundary.

    NumPy would make that copy in every operation, and other libraries do not look.
    """
    return np.require(part, requirements=["C", "A"])


def joined(parts: list[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    if len(parts) == 1:
        return aligned(parts[0])
    return np.concatenate(parts) if parts else empty


def will_need(part: NDArray[Any]) -> None:
    """Have the system read a part of a mapped file, without waiting for it.

    FAISS maps files for random access: without this, a disk is asked for each page by itself, which
    is ten times slower. Of no effect where memory is no file's, or where a system cannot do it.
    """
    if _advise is None or not part.nbytes:
        return
    start = part.ctypes.data // _PAGE * _PAGE
    length = part.ctypes.data + part.nbytes - start
    # What it answers is of no use: at worst pages are read when they are used.
    _advise(ctypes.c_void_p(start), ctypes.c_size_t(length), _WILL_NEED)
