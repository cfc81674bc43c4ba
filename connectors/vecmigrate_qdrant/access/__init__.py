"""The face of all that reaches a collection, and what those on this disk share."""
