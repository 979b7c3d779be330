"""Any crash at any moment, any lost answer, any change of the source: what is lost, and what is sent twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyNoAnswerError,
    VoucherifyPermissionError,
)
from airflow_provider_voucherify.sync.batches.destination import BatchLimits, update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_records
from airflow_provider_voucherify.sync.sending.journal import Journal, Try
from airflow_provider_voucherify.sync.sending.submission import Submission
from airflow_provider_voucherify.sync.types.submitted import SubmittedSync

FAULTS = ["crash before", "crash after", "lost before", "lost after", "refused"]


class Crash(BaseException):
    """SIGKILL, as far as the code can see it."""


@dataclass
class Faults:
    """Which of the coming operations (posts and journal writes) fare how, in order; all others go well."""

    coming: dict[int, str] = field(default_factory=dict)
    operations: int = 0
    crashed: bool = False

    def next(self) -> str | None:
        """Tell the next operation's fault; a process that has crashed does nothing more in any of its threads."""
        if self.crashed:
            raise Crash
        self.operations += 1
        fault = self.coming.get(self.operations)
        self.crashed = fault in ("crash before", "crash after")
        return fault


@dataclass
class Store:
    """Airflow's task state store: it survives the task."""

    faults: Faults
    values: dict[str, str] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any) -> None:
        fault = self.faults.next()
        if fault == "crash before":
            raise Crash
        self.values[key] = json.dumps(value)
        if fault == "crash after":
            raise Crash


@dataclass
class Voucherify:
    """Takes batches."""

    faults: Faults
    now: float = 1_800_000_000.0
    taken: list[list[dict[str, Any]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    bulk_calls_must_wait = False

    def send(self, call: Call[Any]) -> Any:
        with self.lock:
            return self._take(call)

    def _take(self, call: Call[Any]) -> str:
        self.now += 1
        fault = self.faults.next()
        if fault == "refused":
            raise VoucherifyPermissionError("POST", 403)
        if fault == "crash before":
            raise Crash
        if fault == "lost before":
            raise VoucherifyNoAnswerError("lost")
        self.taken.append(json.loads(b"".join(call.body or ())))
        if fault == "crash after":
            raise Crash
        if fault == "lost after":
            raise VoucherifyNoAnswerError("lost")
        return f"aa_{len(self.taken) - 1}"


def source(version: int, rows: int) -> list[dict[str, Any]]:
    """Rows of which the second half changes with the version."""
    return [{"source_id": f"c{i}", "v": version if i >= rows // 2 else 0} for i in range(rows)]


def attempt(
    rows: list[dict[str, Any]], voucherify: Voucherify, store: Store, max_tries: int = 3, max_in_flight: int = 2
) -> SubmittedSync:
    store.faults.crashed = False
    with Plan(update_destination("customers"), MappingRules(), BatchLimits(max_records=2)) as plan:
        plan.read(from_records(rows, "source_id"))
        return Submission(
            plan,
            voucherify,
            Journal(store, Try(max_tries=max_tries)),
            max_in_flight,
            clock=lambda: voucherify.now,
        ).run()


def tries(
    rows: int,
    versions: list[int],
    faults: dict[int, str],
    voucherify: Voucherify,
    store: Store,
    max_in_flight: int = 2,
) -> Iterator[tuple[list[dict[str, Any]], SubmittedSync | None]]:
    """Run until a try succeeds; the source's version may change with each try, and stays as it is at the end."""
    for version in [*versions, *[versions[-1]] * (len(faults) + 1)]:
        now = source(version, rows)
        try:
            sync = attempt(now, voucherify, store, max_in_flight=max_in_flight)
        except (Crash, VoucherifyError):
            for thread in threading.enumerate():
                if thread.name == "voucherify-post":
                    thread.join()
            yield now, None
        else:
            yield now, sync
            return


crash_points = st.dictionaries(st.integers(1, 30), st.sampled_from(FAULTS), max_size=6)
versions = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@settings(max_examples=600)
@given(
    rows=st.integers(0, 11),
    versions=versions,
    coming=crash_points,
    max_in_flight=st.integers(1, 3),
)
def test_nothing_is_lost_and_nothing_is_sent_twice_without_need(
    rows: int, versions: list[int], coming: dict[int, str], max_in_flight: int
) -> None:
    faults = Faults(coming)
    voucherify, store = Voucherify(faults), Store(faults)

    *_, (done_with, last) = tries(rows, versions, coming, voucherify, store, max_in_flight)
    done = [last] if last is not None else []

    assert done, "no try succeeded although every fault happens once"
    latest = {record["source_id"]: record["metadata"]["v"] for batch in voucherify.taken for record in batch}
    assert latest == {row["source_id"]: row["v"] for row in done_with}, "Voucherify does not have the source's rows"
    waited_for = [record for n in done[-1].async_action_ids for record in voucherify.taken[int(n[3:])]]
    assert len(waited_for) == rows == done[-1].submitted
    times = Counter(json.dumps(batch) for batch in voucherify.taken)
    if len(set(versions)) == 1:
        assert sum(times.values()) - len(times) <= done[-1].resubmitted, "a batch was sent twice and not counted"
        marked = {n for n, batch in zip(done[-1].async_action_ids, done[-1].batches, strict=True) if batch.resubmitted}
        for async_action_id in done[-1].async_action_ids:
            taken = json.dumps(voucherify.taken[int(async_action_id[3:])])
            assert times[taken] == 1 or async_action_id in marked, "a batch was sent twice and is not marked"
    seen = [version for version, _ in groupby(versions)]
    if len(set(seen)) == len(seen):
        in_doubt = sum(fault != "refused" for fault in coming.values())
        assert sum(times.values()) - len(times) <= in_doubt * max_in_flight


@settings(max_examples=100)
@given(rows=st.integers(1, 11), coming=crash_points)
def test_a_clear_sends_everything_again(rows: int, coming: dict[int, str]) -> None:
    faults = Faults(coming)
    voucherify, store = Voucherify(faults), Store(faults)
    list(tries(rows, [1], coming, voucherify, store))
    before = len(voucherify.taken)
    faults.coming.clear()

    attempt(source(1, rows), voucherify, store, max_tries=4)

    assert len(voucherify.taken) - before == -(-rows // 2)


def test_a_thousand_batches_fit_the_store() -> None:
    faults = Faults()
    voucherify, store = Voucherify(faults), Store(faults)

    attempt(source(1, 2000), voucherify, store)

    assert len(voucherify.taken) == 1_000
    assert len(store.values) == 5
    assert max(map(len, store.values.values())) < 64 * 1024
    again = attempt(source(1, 2000), voucherify, store)
    assert (again.requests, again.reattached, len(voucherify.taken)) == (0, 1_000, 1_000)
