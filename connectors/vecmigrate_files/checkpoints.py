"""Tokens: how far a target has come."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecmigrate.connector import MismatchError, StoreURI


class Checkpoint(BaseModel):
    """What is to be kept of the staged rows.

    Attributes
    ----------
    parts
        Files that are whole.
    rows, size
        Rows, and bytes, of the spool of those that are in none yet; no bytes where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: int = Field(default=0, ge=0)
    rows: int = Field(default=0, ge=0)
    size: int = Field(default=0, ge=0)

    @classmethod
    def parse(cls, token: str, uri: StoreURI) -> Checkpoint:
        """Read a token back.

        Raises
        ------
        MismatchError
            Where it is none.
        """
        try:
            return cls.model_validate_json(token)
        except ValidationError as error:
            raise MismatchError(
                f"{token!r} is no checkpoint of {uri}", remedy="Start over with --restart."
            ) from error
