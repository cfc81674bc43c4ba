"""Whether a new collection holds what it should, and what its index finds of it."""

from vecmigrate.verification.record import Check, Outcome, Verification
from vecmigrate.verification.run import verify
from vecmigrate.verification.settings import VerifySettings

__all__ = ["Check", "Outcome", "Verification", "VerifySettings", "verify"]
