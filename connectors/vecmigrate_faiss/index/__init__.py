"""FAISS indexes: how each kind is read, built and carried over."""
