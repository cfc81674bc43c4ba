"""What must outlive a process: jobs in progress, verifications, cutovers, in one SQLite file."""

from vecmigrate.state.file import (
    DEFAULT_STATE,
    STATE_VARIABLE,
    open_state,
    state_path,
    transaction,
)

__all__ = ["DEFAULT_STATE", "STATE_VARIABLE", "open_state", "state_path", "transaction"]
