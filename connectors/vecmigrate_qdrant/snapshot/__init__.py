"""Snapshots: made at a server, unpacked, and read by the engine in this process."""
