"""Keeps a translated collection in step with its source, and makes it native over time."""
