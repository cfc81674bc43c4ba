"""Whether a new collection holds what it should, and what its index finds of it."""

from vecmigrate.verification.options import VerifyOptions
from vecmigrate.verification.records import Check, CheckResult, Verification
from vecmigrate.verification.run import verify

__all__ = ["Check", "CheckResult", "Verification", "VerifyOptions", "verify"]
