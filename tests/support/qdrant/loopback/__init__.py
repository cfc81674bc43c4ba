"""A Qdrant server on the loopback interface, on the engine of a real one."""
