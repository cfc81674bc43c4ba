"""The connector contract: all that a connector for a store imports from vecmigrate.

A connector is an object found under the entry-point group ``vecmigrate.connectors``, its
entry-point name being the URI scheme. ``vecmigrate.connector.conformance`` tests one.
"""

from __future__ import annotations

from vecmigrate.connector.failures import told_as, writing
from vecmigrate.connector.lease import Holder, Lease, LeaseFile, LeasePlace, held_beside
from vecmigrate.connector.marks import Mark, TableMark
from vecmigrate.connector.place import LocalPlace
from vecmigrate.connector.protocols import (
    BaseConnector,
    Connector,
    ErasingConnector,
    LeasingConnector,
    ResumableConnector,
    SwitchingConnector,
    UpdatableConnector,
)
from vecmigrate.connector.sink import BegunSink, Sink, check_dimension
from vecmigrate.connector.source import (
    PartitionedSource,
    RowRange,
    RowSource,
    Source,
    filtering,
    refuse_missing,
    steps,
)
from vecmigrate.connector.staging import StagedSink, Staging
from vecmigrate.connector.switcher import Switcher
from vecmigrate.connector.updater import Remnant, Updater
from vecmigrate.connector.uri import StoreURI, parse_uri
from vecmigrate.errors import (
    InputError,
    LockedError,
    MismatchError,
    MissingDependencyError,
    MissingIdsError,
    RefusedError,
    TargetExistsError,
    UnreachableError,
    UsageError,
    VecmigrateError,
    VectorNotFoundError,
    WriteError,
)
from vecmigrate.io.atomic import replace_text, sync_path, take_lock
from vecmigrate.io.mapped import MappedFile
from vecmigrate.io.stamps import files_stamp
from vecmigrate.points.batch import (
    Extra,
    IdArray,
    Payload,
    PointId,
    VectorBatch,
    Vectors,
    are_unit_length,
    id_array,
    join_batches,
)
from vecmigrate.points.canonical import float32_setting, payload_json
from vecmigrate.points.collection import (
    ENCODED,
    ORIGIN_FIELD,
    TRANSLATED,
    UNFINISHED,
    CollectionDescription,
    EncoderIdentity,
    IdKind,
    Metric,
    Provenance,
    TargetSpec,
    detect_id_kind,
    detect_text_field,
)
from vecmigrate.points.ids import name_some
from vecmigrate.points.screening import Absent
from vecmigrate.points.times import is_before
from vecmigrate.runtime.durations import parse_duration
from vecmigrate.runtime.process import Process, machine_identity
from vecmigrate.runtime.threads import map_in_parallel
from vecmigrate.runtime.waiting import Waiting, is_known, make_known, patience_seconds

__all__ = [
    "ENCODED",
    "ORIGIN_FIELD",
    "TRANSLATED",
    "UNFINISHED",
    "Absent",
    "BaseConnector",
    "BegunSink",
    "CollectionDescription",
    "Connector",
    "EncoderIdentity",
    "ErasingConnector",
    "Extra",
    "Holder",
    "IdArray",
    "IdKind",
    "InputError",
    "Lease",
    "LeaseFile",
    "LeasePlace",
    "LeasingConnector",
    "LocalPlace",
    "LockedError",
    "MappedFile",
    "Mark",
    "Metric",
    "MismatchError",
    "MissingDependencyError",
    "MissingIdsError",
    "PartitionedSource",
    "Payload",
    "PointId",
    "Process",
    "Provenance",
    "RefusedError",
    "Remnant",
    "ResumableConnector",
    "RowRange",
    "RowSource",
    "Sink",
    "Source",
    "StagedSink",
    "Staging",
    "StoreURI",
    "Switcher",
    "SwitchingConnector",
    "TableMark",
    "TargetExistsError",
    "TargetSpec",
    "UnreachableError",
    "UpdatableConnector",
    "Updater",
    "UsageError",
    "VecmigrateError",
    "VectorBatch",
    "VectorNotFoundError",
    "Vectors",
    "Waiting",
    "WriteError",
    "are_unit_length",
    "check_dimension",
    "detect_id_kind",
    "detect_text_field",
    "files_stamp",
    "filtering",
    "float32_setting",
    "held_beside",
    "id_array",
    "is_before",
    "is_known",
    "join_batches",
    "machine_identity",
    "make_known",
    "map_in_parallel",
    "name_some",
    "parse_duration",
    "parse_uri",
    "patience_seconds",
    "payload_json",
    "refuse_missing",
    "replace_text",
    "steps",
    "sync_path",
    "take_lock",
    "told_as",
    "writing",
]
