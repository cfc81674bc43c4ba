"""Sentences that name a point, as errors and logs do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vecmigrate.points.batch import PointId

_COUNTED = r"(?:anchors?|bytes|checks?|documents?|of|points?|seconds|texts?|vectors?|%)"
_NUMBER = re.compile(rf"(?<![\w.,:/-])\d+(?![\w:/-]|[.,]\d|\s*{_COUNTED}\b)")
_WORD = re.compile(r"[\w.@+/-]*\w")


class Mentions:
    """Tells whether a sentence names one of some points.

    A number before "points" or the like is a count. Nothing is missed if too much is found: what
    is found is taken out of records that tell how a run went, and of nothing else.
    """

    def __init__(self, ids: Iterable[PointId]) -> None:
        self._numbers, self._words, self._phrases = set[str](), set[str](), list[str]()
        for point in ids:
            if isinstance(point, int):
                self._numbers.add(str(point))
            elif _WORD.fullmatch(point):
                self._words.add(point)
            elif point:
                self._phrases.append(point)

    def within(self, text: str) -> bool:
        """Tell whether a text names a point."""
        return (
            any(found in self._numbers for found in _NUMBER.findall(text))
            or any(found in self._words for found in _WORD.findall(text))
            or any(phrase in text for phrase in self._phrases)
        )
