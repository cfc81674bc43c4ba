"""A server: its answers, its faults, and waiting for it."""
