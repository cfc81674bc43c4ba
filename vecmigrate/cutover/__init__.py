"""Leads readers from an old collection to a verified new one, and back."""

from vecmigrate.cutover.drop import Dropping, drop_source, plan_drop
from vecmigrate.cutover.move import Move, ReaderView, cut_over, roll_back

__all__ = [
    "Dropping",
    "Move",
    "ReaderView",
    "cut_over",
    "drop_source",
    "plan_drop",
    "roll_back",
]
