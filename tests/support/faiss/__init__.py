"""FAISS indexes of every kind, for tests."""
