"""Points in memory: batches of vectors with ids and payloads, and collections of them."""
