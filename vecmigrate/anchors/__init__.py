"""Anchors: a sample of the corpus, held in both encoders' spaces."""

from vecmigrate.anchors.draw import AnchorOptions, OnMissingText, draw_anchors
from vecmigrate.anchors.file import AnchorCard, AnchorSet, load_anchors, save_anchors
from vecmigrate.anchors.strategy import Strategy

__all__ = [
    "AnchorCard",
    "AnchorOptions",
    "AnchorSet",
    "OnMissingText",
    "Strategy",
    "draw_anchors",
    "load_anchors",
    "save_anchors",
]
