"""Removes points from all that vecmigrate wrote of them."""

from vecmigrate.forget.options import ForgetOptions, Left, Receipt, Removed
from vecmigrate.forget.run import forget

__all__ = ["ForgetOptions", "Left", "Receipt", "Removed", "forget"]
