"""A whole move in one file: what is moved, from what to what, and by which gates."""

from vecmigrate.jobs.file import load_job
from vecmigrate.jobs.spec import JobSpec

__all__ = ["JobSpec", "load_job"]
