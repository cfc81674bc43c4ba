"""Qdrant for tests: places, collections, a stand-in for a server."""
