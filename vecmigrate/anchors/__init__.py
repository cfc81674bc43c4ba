"""Anchors: a sample of the corpus, held in both encoders' spaces."""

from vecmigrate.anchors.draw import AnchorOptions as AnchorOptions
from vecmigrate.anchors.draw import OnMissingText as OnMissingText
from vecmigrate.anchors.draw import draw_anchors as draw_anchors
from vecmigrate.anchors.file import AnchorCard as AnchorCard
from vecmigrate.anchors.file import AnchorSet as AnchorSet
from vecmigrate.anchors.file import load_anchors as load_anchors
from vecmigrate.anchors.file import save_anchors as save_anchors
from vecmigrate.anchors.strategy import Strategy as Strategy
