"""Whether a new collection holds what it should, and what its index finds of it."""

from vecmigrate.verification.options import VerifyOptions as VerifyOptions
from vecmigrate.verification.records import Check as Check
from vecmigrate.verification.records import CheckResult as CheckResult
from vecmigrate.verification.records import Verification as Verification
from vecmigrate.verification.run import verify as verify
