"""What is reached by the client's own models: points, and embedded storage."""
