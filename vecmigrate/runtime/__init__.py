"""The process that runs: threads, devices, time, and waiting for servers."""
