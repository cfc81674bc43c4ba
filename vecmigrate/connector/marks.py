"""What vecmigrate notes in a collection that it makes, to be read by a later run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vecmigrate.connector.uri import StoreURI
from vecmigrate.points.collection import Metric, Provenance, TargetSpec

if TYPE_CHECKING:
    from vecmigrate.connector.arrow import ColumnSettings

_KEY = b"vecmigrate"


class Mark(BaseModel):
    """What every collection is to say of itself; a store adds fields of its own.

    Attributes
    ----------
    text
        The payload field that holds the embedded text.
    """

    model_config = ConfigDict(frozen=True)

    metric: Metric
    text: str | None = None
    provenance: Provenance | None = None


class TableMark(Mark):
    """A mark in the metadata of an Arrow schema.

    Attributes
    ----------
    id, vector
        Names of the columns of ids and vectors.
    """

    id: str
    vector: str

    @classmethod
    def of_target(
        cls, uri: StoreURI, settings: ColumnSettings, spec: TargetSpec, **more: Any
    ) -> Self:
        """Return the mark of a target, whose columns the URI names, else the settings."""
        return cls(
            id=uri.options.get("id") or settings.id,
            vector=uri.options.get("vector") or settings.vector,
            metric=spec.metric,
            text=spec.text_field,
            provenance=spec.provenance,
            **more,
        )

    def metadata(self) -> dict[bytes, bytes]:
        """Return the schema's metadata."""
        return {_KEY: self.model_dump_json().encode()}

    @classmethod
    def of(cls, schema: Any) -> Self | None:
        """Return what a schema says; None if another program made it."""
        noted = (schema.metadata or {}).get(_KEY)
        try:
            return None if noted is None else cls.model_validate_json(noted)
        except ValidationError:
            return None
