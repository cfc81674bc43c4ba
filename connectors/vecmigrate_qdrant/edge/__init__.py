"""The server's own engine in this process."""
