"""A whole move in one file: what is moved, from what to what, and by which gates."""

from vecmigrate.jobs.spec import JobSpec as JobSpec
from vecmigrate.jobs.spec import load_job as load_job
