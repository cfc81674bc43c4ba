"""Leads readers from an old collection to a verified new one, and back."""

from vecmigrate.cutover.drop import Dropping as Dropping
from vecmigrate.cutover.drop import drop_source as drop_source
from vecmigrate.cutover.drop import plan_drop as plan_drop
from vecmigrate.cutover.move import CaughtUp as CaughtUp
from vecmigrate.cutover.move import Move as Move
from vecmigrate.cutover.move import ReaderView as ReaderView
from vecmigrate.cutover.move import cut_over as cut_over
from vecmigrate.cutover.move import roll_back as roll_back
