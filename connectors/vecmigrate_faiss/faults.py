"""What FAISS says when something fails, without its file names and line numbers."""

from __future__ import annotations


def faiss_reason(error: BaseException) -> str:
    """Return the last part of a FAISS error's message, on one line."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    return " ".join(str(error).rpartition("Error: ")[2].split()) or type(error).__name__
