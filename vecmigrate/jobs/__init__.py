"""A whole move in one file: what is moved, from what to what, and by which gates."""

from vecmigrate.jobs.spec import JobSpec, load_job

__all__ = ["JobSpec", "load_job"]
