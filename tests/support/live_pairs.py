"""A source that its application writes to, and a target that follows, whatever happens to either.

A state machine draws a pair of stores and a history: what the application writes, also while
vecmigrate reads; what vecmigrate does, stopped or killed in the middle; and what others write at
the target. The invariant is checked at the end, and now and then before: one ``sync`` of a source
that stands still makes the target what a fresh migration would make, but for points that have the
new encoder's own vector, and those of others.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from qdrant_client import models

from support.applications import (
    Application,
    Edit,
    Point,
    Points,
    QdrantCollection,
)
from support.corpus import unit
from support.live_stores import (
    ANY,
    COUNT,
    LAST_STEP,
    OWN,
    QDRANT,
    ROWS,
    SERVED,
    TOLERANCE,
    TRUE,
    TYPED,
    Surroundings,
    application,
    check_same,
    held,
    target_at,
    text_of,
)
from vecmigrate import (
    load_translator,
    migrate,
    open_source,
    open_updater,
)
from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector import (
    Metric,
    VectorBatch,
    id_array,
)
from vecmigrate.connector.addresses import followed_place
from vecmigrate.cutover import cut_over, drop_source, roll_back
from vecmigrate.errors import (
    ExitCode,
    InputError,
    MismatchError,
    TargetExistsError,
    TerminatedError,
    UnsettledError,
)
from vecmigrate.forget import forget
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD
from vecmigrate.runtime import settling
from vecmigrate.state.file import open_records
from vecmigrate.state.ledger import ledger_path, open_ledger
from vecmigrate.sync import SyncResult, cut_over_in_step, sync
from vecmigrate.sync.back import count_lost, sync_back
from vecmigrate.translators import read_card
from vecmigrate.verification import CheckResult, Verification, VerifyOptions, verify
from vecmigrate.verification.records import VerificationLog


@dataclass(frozen=True)
class Change:
    """What an application does to one of its points, before it is known whether that is there."""

    how: str
    at: int
    row: int
    fields: int


CHANGES = st.lists(
    st.builds(
        Change,
        st.sampled_from(["put", "vector", "payload", "text", "bare", "delete", "again"]),
        st.integers(0, COUNT - 1),
        st.integers(0, len(ROWS) - 1),
        st.integers(0, len(ANY) - 1),
    ),
    max_size=5,
)
SOME = st.lists(st.integers(0, COUNT - 1), max_size=3)
SOON = st.none() | st.integers(1, 8)
"""After how many looks a run is asked to stop; None: it is not."""


_DISTANCES = {
    Metric.COSINE: models.Distance.COSINE,
    Metric.DOT: models.Distance.DOT,
    Metric.EUCLID: models.Distance.EUCLID,
}


class LivePair(RuleBasedStateMachine):
    """One pair of stores, and what is known of either.

    Attributes
    ----------
    points
        What the source has to hold.
    theirs
        What others wrote at the target, None for what they deleted; they share it then.
    retold
        Payloads that others gave to points of ours at the target.
    published
        True once the target is.
    _unsettled
        A sync was killed, and none has ended since.
    touched
        Ids that the application has written since all was compared last.
    _shares, _led, _lost
        Others share the target; readers have it; what was known of it was lost.
    encoded
        Ids whose points at the target have the new encoder's own vector, and keep it.
    _began_anew
        The state file was lost.
    _returned
        Ids that may come back at the target although others deleted them there: the application
        has deleted them since, or the migration had yet to bring them.
    _field
        How the application stamps what it writes, if changes are found by that; None: by hash.
    """

    shared: Surroundings
    pairs: Sequence[tuple[str, str]]
    tally: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(dir=self.shared.folder))
        self._source: Application | None = None
        self.points: Points = {}
        self.theirs: dict[Any, Point | None] = {}
        self.retold: dict[Any, dict[str, Any]] = {}
        self.touched: set[Any] = set()
        self._shares = self._lost = self.published = self._led = self._began_anew = False
        self._unsettled = False
        self._returned: set[Any] = set()
        self.encoded: set[Any] = set()
        self._stamp = 0

    # The pair, and what its application does.

    @initialize(
        data=st.data(), count=st.integers(3, 18), uuids=st.booleans(), kept=st.booleans(),
        moved=st.booleans(), field=st.sampled_from([None, None, "times", "versions"]),
        shares=st.booleans(), drops=st.booleans(),
    )  # fmt: skip
    def begin(
        self,
        data: st.DataObject,
        count: int,
        uuids: bool,
        kept: bool,
        moved: bool,
        field: str | None,
        shares: bool,
        drops: bool,
    ) -> None:
        self.pair = old, new = data.draw(st.sampled_from(list(self.pairs)))
        self._ids_are = "uuids" if uuids and old != "faiss" else "integers"
        self._ids = self.shared.ids[self._ids_are]
        self._anchor_file = self._folder / "anchors.parquet"
        shutil.copyfile(self.shared.anchor_file(self._ids_are), self._anchor_file)
        self._anchors = self._anchor_file if kept else None
        self._field, self._drops = field, drops
        source = self._source = application(old, self._folder, self.shared)
        self._fields = ANY if source.keeps_any_payload else TYPED
        self._target = target_at(new, self._folder, self.shared)
        self._state = self._folder / "state" / "state.sqlite"
        self._bare = source.holds_bare_points and new in QDRANT
        for at in range(count):
            fields = self._fields[at % len(self._fields)]
            given = {"text": text_of(at, 0), **fields, **self._stamped()}
            self.points[self._ids[at]] = Point(_vector(at), given)
        source.create(self.points)
        self._name = self._reader_name()
        self._count("histories")
        if shares and new in SERVED:
            self._begin_shared()
        if moved:
            self.move(None, [], 5, 100)

    def _begin_shared(self) -> None:
        """Others make the target, and write to it from before the move's start."""
        assert self._source is not None
        place = self.shared.place(self.pair[1])
        with open_source(self._source.uri) as source:
            distance = _DISTANCES[source.describe().metric]
        self._others = QdrantCollection(place, place.made[-1], distance)
        self._others.create({self._ids[-1]: _theirs(0)})
        self.theirs[self._ids[-1]] = _theirs(0)
        self._shares = True
        self._count("shared from the start")

    def _stamped(self) -> dict[str, int]:
        """What the application adds to each payload that it writes."""
        if self._field is None:
            return {}
        now = time.time_ns() // 1000 if self._field == "times" else 0
        self._stamp = max(self._stamp + 1, now)
        return {"at": self._stamp}

    @rule(changes=CHANGES)
    def write(self, changes: list[Change]) -> None:
        """The application writes."""
        edits = [edit for change in changes for edit in self._edits(change)]
        if edits and self._source is not None:
            self._source.write(edits, self.points)

    def _edits(self, change: Change) -> list[Edit]:
        """What a change asks of the store, which then is noted; nothing if it makes no sense."""
        point_id, before = self._ids[change.at], self.points.get(self._ids[change.at])
        made = Point(_vector(change.row), {**self._payload(change), **self._stamped()})
        how = change.how
        if how == "put":
            return [self._edit("put", point_id, made)]
        if before is None or (how in ("delete", "again") and len(self.points) <= 2):
            return []
        if how == "delete":
            return [self._edit("delete", point_id, None)]
        if how == "again":
            return [self._edit("delete", point_id, None), self._edit("put", point_id, made)]
        if how == "vector":
            return [self._change(how, point_id, made.vector, before.payload)]
        if how == "payload":
            payload = {**self._fields[change.fields % len(self._fields)]}
            if "text" in before.payload:
                payload["text"] = before.payload["text"]
            return [self._change(how, point_id, before.vector, payload)]
        if how == "text":
            payload = {**before.payload, "text": text_of(change.at, change.row % 2)}
            return [self._change("payload", point_id, before.vector, payload)]
        vectors = sum(point.vector is not None for point in self.points.values())
        if not self._holds_bare() or before.vector is None or vectors <= 2:
            return []
        return [self._change(how, point_id, None, before.payload)]

    def _change(self, how: str, point_id: Any, vector: Any, payload: Mapping[str, Any]) -> Edit:
        """A change of a part; whoever stamps what he writes writes the whole point."""
        stamped = Point(vector, {**payload, **self._stamped()})
        return self._edit(how if self._field is None else "put", point_id, stamped)

    def _holds_bare(self) -> bool:
        return self._source is not None and self._source.holds_bare_points

    def _edit(self, how: str, point_id: Any, point: Point | None) -> Edit:
        self.touched.add(point_id)
        before = self.points.get(point_id)
        if point is None or before is None or not _has_same_text(before, point):
            self.encoded.discard(point_id)
        if point is None:
            del self.points[point_id]
            self._returned.add(point_id)
        else:
            self.points[point_id] = point
        return Edit(how, point_id, point)

    def _payload(self, change: Change) -> dict[str, Any]:
        payload = dict(self._fields[change.fields % len(self._fields)])
        if change.row % 5:
            payload["text"] = text_of(change.at, change.row % 2)
        return payload

    # What vecmigrate does.

    @precondition(lambda self: not self.published)
    @rule(stop=SOON, meanwhile=CHANGES, size=st.integers(1, 9), few=st.sampled_from([0, 3, 100]))
    def move(self, stop: int | None, meanwhile: list[Change], size: int, few: int) -> None:
        """Migrate, or go on with it, while the application writes."""
        self._count("migrations")
        usual, settling.FEW = settling.FEW, few
        try:
            self._migrate(stop=_after(stop), progress=self._once(meanwhile), batch_size=size)
        except TerminatedError:
            assert stop is not None
            self._count("migrations stopped")
        except UnsettledError:
            self._count("migrations not settled")
        except TargetExistsError:
            # A kill came right before the end was noted, or right after.
            assert self._is_published()
        finally:
            settling.FEW = usual
        self.published = self._is_published()

    def _migrate(self, **how: Any) -> None:
        assert self._source is not None
        given = {
            "state": self._state, "keep_anchors": self._anchors, "checkpoint_seconds": 0,
            "on_bad_vector": self._on_bad_vector, "shared_target": self._shares,
            **self._finding, **how,
        }  # fmt: skip
        pair = self._source.uri, self._target, self.shared.translator
        try:
            migrate(*pair, **given)
        except (MismatchError, TargetExistsError) as error:
            if isinstance(error, MismatchError):
                # Cursors of a file count its rows, which are others after a stop.
                assert self.pair[0] not in SERVED
            elif self._is_published():
                raise
            else:
                # Without a state file, a changed source is another one.
                assert self._began_anew
            assert self.touched
            self._count("migrations restarted")
            migrate(*pair, **given, restart=True)

    @property
    def _finding(self) -> dict[str, str]:
        """How changes are found."""
        return {} if self._field is None else {"changed_by": "at", "overlap": "0"}

    @precondition(lambda self: not self.published)
    @rule(step=st.integers(1, LAST_STEP["migrate"]), size=st.integers(1, 9))
    def killed_move(self, step: int, size: int) -> None:
        """Migrate, and be killed before a step."""
        more = ["--shared-target"] if self._shares else []
        self._killed("migrate", step, "--batch-size", size, "--checkpoint-seconds", 0, *more)
        self.published = self._is_published()

    @precondition(lambda self: self.published)
    @rule(step=st.integers(1, LAST_STEP["sync"]), size=st.integers(1, 9), changes=CHANGES)
    def killed_sync(self, step: int, size: int, changes: list[Change]) -> None:
        """Sync what the application just wrote, and be killed before a step."""
        self.write(changes)
        more = ["--shared-target"] if self._shares else []
        self._killed("sync", step, "--batch-size", size, "--max-vanished", 1, *more)

    def _killed(self, command: str, step: int, *more: object) -> None:
        killer = self.shared.killer(syncs=command == "sync")
        if killer is None or self._source is None or "lancedb" in self.pair or self._lost:
            return
        given = [
            command, self._source.uri, self._target, "--translator", self.shared.translator,
            "--state", self._state, "--on-bad-vector", self._on_bad_vector, "--quiet", *more,
        ]  # fmt: skip
        if self._field is not None:
            given += ["--changed-by", "at", "--overlap", "0"]
        if self._anchors is not None:
            given += ["--keep-anchors", self._anchors]
        code = killer.run(step, [str(each) for each in given])
        self._count(f"{command} killed" if code < 0 else f"{command} ended first")
        self._unsettled = code < 0 and command == "sync"
        assert code < 0 or code in (0, ExitCode.MISMATCH, ExitCode.TARGET_EXISTS), code

    @precondition(lambda self: self.published)
    @rule(
        stop=SOON, meanwhile=CHANGES, size=st.integers(1, 9), rest=st.booleans(),
        texts=st.integers(0, 4),
    )  # fmt: skip
    def follow(
        self, stop: int | None, meanwhile: list[Change], size: int, rest: bool, texts: int
    ) -> None:
        """Sync while the application writes, perhaps over the other protocol, and re-embed some."""
        self._count("syncs")
        how = {"stop": _after(stop), "progress": self._once(meanwhile), "batch_size": size}
        if texts and self._anchors is not None:
            how |= {"reembed_budget": str(texts), "encoder": self.shared.encoder(self._ids_are)}
        try:
            self._sync(rest=rest and self.pair[0] == "grpc", **how)
        except TerminatedError:
            assert stop is not None
            self._count("syncs stopped")
        except InputError:
            # Parquet files that are replaced while a sync reads them end it.
            assert self.pair[0] == "parquet"
            assert meanwhile
            self._count("syncs of replaced files")

    def _sync(self, *, rest: bool = False, **how: Any) -> SyncResult:
        assert self._source is not None
        given = {
            "keep_anchors": self._anchors, "on_bad_vector": self._on_bad_vector,
            "max_vanished": 1, "shared_target": self._shares, **self._finding, **how,
        }  # fmt: skip
        source = f"{self._source.uri}&grpc=false" if rest else self._source.uri
        pair = source, self._target, self.shared.translator, self._state
        try:
            return sync(*pair, **given)
        except MismatchError:
            # Without a ledger, what changed since is not told from what others wrote.
            if not self._lost:
                raise
            return sync(*pair, **{**given, "overwrite": True})

    @precondition(lambda self: self.published and not self.theirs and not self.retold)
    @rule()
    def look(self) -> None:
        """Verify while some changes are pending."""
        self._count("verifications")
        found = self._verify(max_pending=1)
        if any(check.name == "pending" for check in found.checks):
            assert found.passed, found.failures

    def _verify(self, **how: Any) -> Verification:
        assert self._source is not None
        asked = VerifyOptions(
            full=True, keep_anchors=self._anchors, on_bad_vector=self._on_bad_vector, **how
        )
        pair = self._source.uri, self._target, self.shared.translator
        return verify(*pair, asked, state=self._state)

    @precondition(lambda self: not self._is_shared)
    @rule(whole=st.booleans())
    def lose(self, whole: bool) -> None:
        """What is known of each point is gone, or all that is known beside the target."""
        lost = self._state.parent if whole else self._state.parent / "ledgers"
        shutil.rmtree(lost, ignore_errors=True)
        self._lost = self.published
        self._began_anew |= whole
        self._count("states lost" if whole else "ledgers lost")

    @precondition(lambda self: self.published)
    @rule(places=SOME)
    def forget_some(self, places: list[int]) -> None:
        """The application deletes points, and vecmigrate forgets them at once."""
        assert self._source is not None
        # A way back needs anchors.
        ids = [i for i in self._of(places) if i not in self._ids[:3]]
        if not ids or len(set(self.points) - set(ids)) < 3:
            return
        gone = [self._edit("delete", i, None) for i in ids if i in self.points]
        if gone:
            self._source.write(gone, self.points)
        asked = {"targets": [self._target], "folders": [self._folder]}
        forget(ids, self._state, **asked)
        assert not held(self._target).keys() & set(ids)
        for i in ids:
            self.theirs.pop(i, None)
            self.retold.pop(i, None)
        assert set(forget(ids, self._state, **asked).found_nowhere) == set(ids)
        self._count("forgotten")

    # What others do at the target.

    @precondition(lambda self: self.published and not self._is_shared)
    @rule(new=SOME, over=SOME, gone=SOME, shares=st.booleans(), changes=CHANGES)
    def intrude(
        self, new: list[int], over: list[int], gone: list[int], shares: bool, changes: list[Change]
    ) -> None:
        """Others write at the target, which stops a sync; then they share it, or lose theirs."""
        self.settle()
        before = self.points.copy()
        strangers, ours = self._intrude(new, over, gone)
        self.write(changes)
        # A sync does not look at a point's vector unless the point changed at the source.
        unlike = [i for i in ours if i not in self.points or self.points[i] != before[i]]
        self._count("intrusions")
        self._resolve([*strangers, *unlike], shares=shares)

    @precondition(lambda self: self.published and self._is_shared)
    @rule(new=SOME, over=SOME, gone=SOME, retold=SOME)
    def share(self, new: list[int], over: list[int], gone: list[int], retold: list[int]) -> None:
        """Others write at the target that they share, or that readers have."""
        there = held(self._target)
        known = [
            i
            for i in self._of(retold)
            if i not in self.theirs
            and i not in self._of([*over, *gone])
            and there.get(i, Point(None)).vector is not None
        ]
        self._intrude(new, over, gone, known if self._tells_payloads() else [])
        self._count("native writes")

    def _tells_payloads(self) -> bool:
        """True if a sync tells payloads that others change: stores and protocols have their own."""
        assert self._source is not None
        with (
            open_source(self._source.uri) as source,
            open_source(self._target) as target,
            open_ledger(ledger_path(self._state, self._target), keep=False) as ledger,
        ):
            return ledger.tells_payloads(source, target)

    @precondition(lambda self: self._shares and not self.published)
    @rule(new=SOME, gone=SOME)
    def share_unfinished(self, new: list[int], gone: list[int]) -> None:
        """Others write at a target that they share, while it is being made."""
        there = self._others.read()
        made = {i: _theirs(at) for at, i in enumerate(self._of(new))}
        lost = [i for i in self._of(gone) if i in there and i not in made]
        edits = [Edit("put", i, point) for i, point in made.items()]
        self._others.write([*edits, *(Edit("delete", i, None) for i in lost)], {})
        self.theirs |= {**made, **dict.fromkeys(lost)}
        # Whether the migration has been there is not told.
        self._returned |= set(lost)
        self._count("early native writes")

    def _resolve(self, named: list[Any], *, shares: bool) -> None:
        """Sync, which is refused if there are such points; then say what is to become of these."""
        left = held(self._target)
        try:
            self._sync()
        except MismatchError:
            assert held(self._target) == left
            self._count("refusals")
        else:
            assert not named
            # What they deleted is back.
            self.theirs = {i: point for i, point in self.theirs.items() if point is not None}
            now = held(self._target)
            self.retold = {i: each for i, each in self.retold.items() if now[i].payload == each}
        if shares:
            self._shares = True
        else:
            self._sync(overwrite=True)
            self.theirs, self.retold = {}, {}

    def _intrude(
        self, new: list[int], over: list[int], gone: list[int], retold: Sequence[Any] = ()
    ) -> tuple[list[Any], list[Any]]:
        """Write at the target; return which of the points are new there and which were ours."""
        there = held(self._target)
        strangers = [i for i in self._of(new) if i not in there and i not in self.points]
        ours = [i for i in self._of(over) if there.get(i, Point(None)).vector is not None]
        lost = [i for i in self._of(gone) if i in there and i not in ours]
        points = {i: _theirs(at) for at, i in enumerate(strangers)}
        for i in ours:
            # The opposite of ours is surely not ours.
            vector = np.array(there[i].vector) * (1 if i in self.theirs else -1)
            points[i] = Point(tuple(vector.tolist()), {"theirs": 2})
        for i in retold:
            self.retold[i] = {"theirs": 3}
        with open_source(self._target) as target:
            made = target.describe().provenance
        assert made is not None
        written = points | {i: Point(there[i].vector, self.retold[i]) for i in retold}
        with open_updater(self._target, made) as updater:
            if written:
                rows = np.array([point.vector for point in written.values()], np.float32)
                payloads = [dict(point.payload) for point in written.values()]
                updater.upsert(VectorBatch(id_array(list(written)), rows, payloads))
            if lost:
                updater.delete(id_array(lost))
            updater.finish()
        self.theirs |= {**points, **dict.fromkeys(lost)}
        self.retold = {i: each for i, each in self.retold.items() if i not in self.theirs}
        self._returned -= {*lost, *retold}
        if self._unsettled:
            # What a killed sync had brought is not told from what it was about to bring.
            self._returned |= set(lost)
        self.encoded -= {*ours, *lost}
        return strangers, ours

    def _of(self, places: list[int]) -> list[Any]:
        return [self._ids[at] for at in dict.fromkeys(places)]

    @property
    def _is_shared(self) -> bool:
        """True if others' points at the target are left alone."""
        return self._shares or self._led

    # Readers go over and back.

    @precondition(lambda self: self.published and self._name is not None and not self._is_shared)
    @rule(changes=CHANGES, late=CHANGES, catching_up=st.booleans())
    def go_over(self, changes: list[Change], late: list[Change], catching_up: bool) -> None:
        """Readers are led to the target, while the application still writes to the source."""
        self.settle()
        assert self._name is not None
        found = self._verify()
        self.write(changes)
        assert self._source is not None
        left = [late] if catching_up and self._source.writes_meanwhile else []

        def bring(_: str, readers_led: bool) -> SyncResult:
            done = self._sync()
            if left and not readers_led:
                self.write(left.pop())
            return done

        with open_records(self._state) as records:
            VerificationLog(records).add(followed_place(self._target), found)
            if catching_up:
                moved = cut_over_in_step(self._name, self._target, records, bring)
            else:
                moved = cut_over(self._name, self._target, records)
        assert moved.done
        self._led = True
        assert held(self._name) == held(self._target)
        if catching_up:
            self._check_target()
        self._count("cutovers")

    @precondition(lambda self: self._led)
    @rule(shares=st.booleans(), changes=CHANGES)
    def go_back(self, shares: bool, changes: list[Change]) -> None:
        """Readers are led back; what applications wrote at the target stays there, and is told."""
        assert self._name is not None
        assert self._source is not None
        self.settle()
        with open_records(self._state) as records:
            assert roll_back(self._name, records).done
        self._led = False
        assert held(self._name) == held(self._source.uri)
        if not self._shares and any(i not in self.points for i, p in self.theirs.items() if p):
            assert not self._verify(max_pending=1).passed
        self.write(changes)
        self._count("rollbacks")
        native = [i for i, point in self.theirs.items() if point is not None]
        self._resolve([i for i in native if i not in self.points], shares=shares)

    @precondition(lambda self: self._led and self.pair[0] in QDRANT)
    @rule()
    def bring_back(self) -> None:
        """What applications wrote at the target is brought to the source."""
        assert self._source is not None
        assert self._name is not None
        before, native = held(self._target), dict(self.theirs)
        sync_back(
            self._target, self._source.uri, self._state,
            keep_anchors=self._anchor_file, max_vanished=1,
        )  # fmt: skip
        assert held(self._target) == before
        found = self._source.read()
        for i, point in native.items():
            if point is None and i not in before:
                self.points.pop(i, None)
                self._returned.add(i)
            elif point is not None:
                vector = found[i].vector
                assert vector is not None
                self.points[i] = Point(vector, point.payload)
        for i, payload in self.retold.items():
            if i in self.points and before[i].payload == payload:
                self.points[i] = Point(self.points[i].vector, payload)
        check_same(found, self.points, 0)
        with open_records(self._state) as records:
            assert count_lost(self._name, self._state, records) == 0
        self._count("ways back")

    def _reader_name(self) -> str | None:
        """What readers of the source open, if a cutover from one of the stores to the other is."""
        old, new = self.pair
        if old == new == "faiss":
            (self._folder / "live.faiss").symlink_to("old.faiss")
            (self._folder / "live.jsonl").symlink_to("old.jsonl")
            return f"faiss:{self._folder}/live.faiss"
        if old == new and isinstance(self._source, QdrantCollection):
            return self._source.named(f"readers-{uuid.uuid4().hex}")
        return None

    # The invariant.

    @precondition(lambda self: self.published)
    @rule()
    def settle(self) -> None:
        """The source stands still: one sync makes the target what a fresh migration would make."""
        assert self._source is not None
        while not self.published:
            self.move(None, [], 7, 100)
        self._sync()
        self._lost = self._unsettled = False
        self._check_target()
        check_same(self._source.read(), self.points, 0)
        found = self._verify()
        assert found.passed, found.failures
        outcomes = {c.outcome for c in found.checks if c.name == "pending"}
        assert outcomes == {CheckResult.PASSED}, found.checks
        again = self._sync()
        assert (again.wrote, again.adopted, again.left_alone) == (0, 0, 0), again
        self.touched.clear()
        self._count("settled")

    def _check_target(self) -> None:
        found, expected = held(self._target), self._expected()
        self._check_encoded(found, expected)
        for point_id, point in self.theirs.items():
            if point is not None:
                expected[point_id] = point
            elif point_id not in found:
                expected.pop(point_id, None)
            else:
                # What they deleted comes back only if the source lost it, too, and has it again.
                assert point_id in self._returned, point_id
        for point_id, payload in self.retold.items():
            ours = expected.get(point_id)
            if ours is None or ours.vector is None or point_id in self._returned:
                # Left alone, since the source lost it; or without a vector, as the source has it.
                if point_id in found:
                    expected[point_id] = found[point_id]
            else:
                expected[point_id] = Point(ours.vector, payload)
        with open_source(self._target) as target:
            ulps = target.payload_ulps()
        check_same(found, expected, ulps)
        self.theirs = {
            i: point for i, point in self.theirs.items() if point is not None or i not in found
        }

    def _check_encoded(self, found: Points, expected: Points) -> None:
        """Expect the new encoder's own vectors where they are, and where they were to be kept."""
        own = dict(zip(self._ids, OWN, strict=True))
        there = {
            i
            for i in found.keys() & expected.keys() - self.theirs.keys()
            if found[i].vector is not None
            and (found[i].payload.get(ORIGIN_FIELD) == ENCODED or i in self.retold)
            and np.allclose(found[i].vector, own[i], atol=TOLERANCE)
        }
        assert self.encoded - self.theirs.keys() <= there
        self.encoded = there
        for i in there:
            payload = {**expected[i].payload, ORIGIN_FIELD: ENCODED}
            expected[i] = Point(tuple(own[i].tolist()), payload)

    def _expected(self) -> Points:
        """What a fresh migration would make."""
        translator = load_translator(self.shared.translator)
        given = {i: p for i, p in self.points.items() if p.vector is not None}
        rows = unit(np.array([point.vector for point in given.values()]))
        payloads = [dict(point.payload) for point in given.values()]
        batch = VectorBatch(id_array(list(given)), translator.transform(rows), payloads)
        if self._anchors is not None:
            from vecmigrate import load_anchors

            card = read_card(self.shared.translator)
            keeper = AnchorKeeper(load_anchors(self._anchors), card, "text")
            [batch] = keeper.apply([batch])
        expected = {
            i: Point(tuple(row.tolist()), dict(payload))
            for i, row, payload in zip(
                batch.ids.tolist(), batch.vectors, batch.each_payload(), strict=True
            )
        }
        if self._bare:
            expected |= {i: p for i, p in self.points.items() if p.vector is None}
        return expected

    def teardown(self) -> None:
        try:
            if self._source is not None:
                self.settle()
                if self._led and self._drops:
                    self._drop()
        finally:
            if self._source is not None:
                self._source.close()
                if self.pair[1] in SERVED:
                    self._delete_target()
            shutil.rmtree(self._folder)

    def _drop(self) -> None:
        """The source goes; readers miss nothing."""
        assert self._name is not None
        assert self._source is not None
        before = held(self._target)
        with open_records(self._state) as records:
            VerificationLog(records).add(followed_place(self._target), self._verify())
            assert drop_source(self._name, self._source.uri, records).done
        assert held(self._name) == held(self._target) == before
        with pytest.raises(InputError):
            held(self._source.uri)
        self._count("sources dropped")

    def _delete_target(self) -> None:
        place = self.shared.place(self.pair[1])
        with place.client() as client:
            client.delete_collection(place.made[-1])

    @property
    def _on_bad_vector(self) -> str:
        """Points without a vector are left out where the target has no place for them."""
        return "skip" if self._holds_bare() and not self._bare else "fail"

    def _is_published(self) -> bool:
        try:
            with open_source(self._target) as target:
                described = target.describe()
                described.require_finished()
        except InputError:
            return False
        # Others' own collection has no mark before the migration is done.
        return described.provenance is not None

    def _once(self, meanwhile: list[Change]) -> Callable[[object], None]:
        """Return a callback that has the application write once."""
        left = [meanwhile] if self._source is not None and self._source.writes_meanwhile else []

        def call(_: object) -> None:
            if left:
                self.write(left.pop())

        return call

    def _count(self, what: str) -> None:
        self.tally[what] += 1
        self.tally[f"{what}: {' to '.join(self.pair)}"] += 1


def run_histories(
    shared: Surroundings,
    pairs: Sequence[tuple[str, str]],
    examples: int,
    *,
    steps: int,
    number: int,
    tally: Counter[str],
    phases: Collection[Phase] = (Phase.generate, Phase.shrink),
) -> None:
    """Draw histories and check each.

    Parameters
    ----------
    steps
        How many things happen in a history, at most.
    number
        Draws the same histories each time.
    tally
        Counts what happens in them.
    """
    machine = type("Machine", (LivePair,), {"shared": shared, "pairs": pairs, "tally": tally})
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False, phases=phases,
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(machine), settings=chosen)


def _has_same_text(before: Point, now: Point) -> bool:
    """Tell whether an encoder's vector still is that of a point: without a text, by its old one."""
    if now.vector is None or before.text != now.text:
        return False
    return now.text is not None or before.vector == now.vector


def _theirs(at: int) -> Point:
    """What others write at the target."""
    return Point(tuple(TRUE[-1 - at].tolist()), {"theirs": 1})


def _vector(row: int) -> tuple[float, ...]:
    return tuple(ROWS[row].tolist())


def _after(count: int | None) -> Callable[[], bool]:
    """Return what says at its ``count``-th call, and from then on, that a run is to stop."""
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return count is not None and calls >= count

    return stop
