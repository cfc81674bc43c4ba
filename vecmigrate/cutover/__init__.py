"""Leads readers from an old collection to a verified new one, and back."""

from vecmigrate.cutover.drop import Dropping, drop_source, plan_drop
from vecmigrate.cutover.move import Move, cut_over, roll_back
from vecmigrate.cutover.view import ReaderView

__all__ = [
    "Dropping",
    "Move",
    "ReaderView",
    "cut_over",
    "drop_source",
    "plan_drop",
    "roll_back",
]
