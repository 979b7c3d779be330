"""The nights of one sync, each of which is held against all that is kept of the others, and against Voucherify."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from connections import SECRET_KEY
from dags import DagRunResult, run_dag
from kept_history import Folder, Kept, Row, Tables, moment

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sync.types.outcome import OUTCOMES, RUN_COUNTS, WRITTEN

MAPPING = {"id": "source_id", "name": "name", "tier": "metadata.tier", "optin": "metadata.optin"}
FIRST_NIGHT = datetime(2026, 11, 1, 2, tzinfo=UTC)
OF_ROWS = tuple(outcome for outcome in OUTCOMES if outcome not in ("updated", "created", "removed"))
"""The counts that make up the rows: ``succeeded`` of a summary has those that were updated and created, too."""


@dataclass
class Nights:
    """
    The source, the sync and what came of it so far.

    :ivar rows: the source, in order.
    :ivar tries: of each night the statuses that its tries should have.
    :ivar sources: what the source had, by night and try.
    :ivar failing: since when a record has been failing, as the changelog tells: not before and not after.
    :ivar kept: what was there at the last check.
    :ivar known: the records that Voucherify had then, and ``requests`` how many requests it had received.
    :ivar last: the run that ``run`` has run last.
    """

    voucherify: LocalVoucherify
    place: Tables | Folder
    dag_id: str
    rows: list[Row] = field(default_factory=list)
    tries: dict[int, list[str]] = field(default_factory=dict)
    sources: dict[tuple[int, int], list[Row]] = field(default_factory=dict)
    failing: dict[str, tuple[float, float]] = field(default_factory=dict)
    kept: Kept = field(default_factory=lambda: Kept({}, {}, {}))
    known: set[str] = field(default_factory=set)
    requests: int = 0
    last: DagRunResult | None = None

    def change(self, *ids: str, **values: Any) -> None:
        for row in self.rows:
            if row["id"] in ids:
                row.update(values)

    def dag(self, **task: Any) -> DAG:
        rows = [dict(row) for row in self.rows]
        arguments = {"records": rows, "mapping": MAPPING, "fail_if": {"failed": 5}, **task}
        with DAG(self.dag_id, schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync",
                resource="customers",
                state={**self.place.state, "keep_values": True},
                requests={"max_records": 10, "max_in_flight": 1},
                retry_delay=timedelta(0),
                **arguments,
            )
        return dag

    def begin(self, *tries: str) -> int:
        """Begin a night that should have tries with these statuses."""
        night = len(self.tries) + 1
        self.tries[night] = list(tries)
        self.note_source(night, len(tries))
        return night

    def note_source(self, night: int, tries: int) -> None:
        for number in range(1, tries + 1):
            self.sources.setdefault((night, number), [dict(row) for row in self.rows])

    def run(self, night: int, dag: DAG) -> DagRunResult:
        self.last = run_dag(dag, logical_date=date(night))
        return self.last

    def night(self, *tries: str, **task: Any) -> Row:
        """Run the sync of a night, check that all agree, and return the last row of its runs."""
        night = self.begin(*tries)
        self.run(night, self.dag(**task))
        return self.check(night)

    def check(self, night: int) -> Row:
        """Check what a night has left, and return the last row of its runs."""
        before, self.kept = self.kept, self.place.read()
        nothing_is_lost(before, self.kept)
        by_night: dict[int, list[Row]] = defaultdict(list)
        for row in self.kept.runs.values():
            by_night[self.night_of(row)].append(row)
        assert {one: [row["status"] for row in rows] for one, rows in by_night.items()} == self.tries
        assert [row["try_number"] for row in by_night[night]] == list(range(1, len(by_night[night]) + 1))
        changed = [row for try_id, row in self.kept.runs.items() if row != before.runs.get(try_id)]
        for row in changed:
            self.check_try(row, self.kept.lines_of(row["try_id"]))
        assert {try_id for try_id, _ in self.kept.lines} <= set(self.kept.runs)
        self.check_state()
        self.check_sent(changed)
        assert SECRET_KEY not in repr(self.kept)
        return by_night[night][-1]

    def night_of(self, row: Row) -> int:
        logical_date = moment(row["logical_date"])
        assert logical_date is not None
        return int((logical_date - FIRST_NIGHT.timestamp()) // 86_400) + 1

    def check_try(self, row: Row, lines: list[Row]) -> None:
        """Hold a try against its lines, the source and Voucherify."""
        assert (row["dag_id"], row["task_id"], row["map_index"]) == (self.dag_id, "sync", -1)
        started, finished = moment(row["started_at"]), moment(row["finished_at"]) if row.get("finished_at") else None
        assert started is not None
        assert started <= (finished or time.time()) <= time.time()
        assert (finished is None) == (row["status"] == "running")
        if row.get("rows_read") is None:
            assert (lines, {row.get(name) for name in RUN_COUNTS}) == ([], {None})
            return
        self.check_counts(row, lines)
        source = self.sources[self.night_of(row), row["try_number"]]
        assert row["rows_read"] == len(source)
        places = [line["source_row"] for line in lines]
        assert len(set(places)) == len(places)
        for line in lines:
            assert line["record_id"] == source[line["source_row"] - 1]["id"]
            self.check_line(line)
            self.note_failure(line, (started, finished or time.time()))
        self.check_actions(lines)

    def check_counts(self, row: Row, lines: list[Row]) -> None:
        """Hold the counts of a try against its lines, of which tables have none for rows that are unchanged."""
        assert row["rows_read"] == sum(row[outcome] for outcome in OF_ROWS)
        lines_of = Counter(line["outcome"] for line in lines)
        counts = {outcome: lines_of[outcome] for outcome in (*OF_ROWS, "removed")}
        counts["succeeded"] = sum(lines_of[outcome] for outcome in WRITTEN)
        if isinstance(self.place, Tables):
            assert counts["unchanged"] == 0
            counts["unchanged"] = row["unchanged"]
        if row["created"] is not None:
            counts |= {outcome: lines_of[outcome] for outcome in ("created", "updated")}
        assert {outcome: row[outcome] for outcome in counts} == counts
        reasons = Counter(line["reason_key"] for line in lines if line["outcome"] in ("failed", "refused"))
        assert json.loads(row["failures_by_key"] or "{}") == reasons

    def check_actions(self, lines: list[Row]) -> None:
        """Hold lines against the actions that they name: how many records each has written, and how many not."""
        written: dict[str, Counter[bool]] = defaultdict(Counter)
        for line in lines:
            if line.get("async_action_id") is not None:
                written[line["async_action_id"]][line["outcome"] in WRITTEN] += 1
        for action_id, counts in written.items():
            outcome = self.voucherify.actions[action_id].outcome
            assert outcome is not None
            assert (outcome.done_count, outcome.failed_count) == (counts[True], counts[False])

    def check_line(self, line: Row) -> None:
        """Check that a line of a record that was sent says in which action, and what was sent; and no other line."""
        was_sent = line["outcome"] in ("failed", "not_reported", "not_updated", *WRITTEN)
        assert (line.get("async_action_id") is not None) == was_sent
        assert (line.get("content") is not None) == was_sent
        if was_sent:
            assert json.loads(line["content"])["source_id"] == line["record_id"]

    def note_failure(self, line: Row, during: tuple[float, float]) -> None:
        if line["outcome"] in ("failed", "refused") and line["record_id"] is not None:
            self.failing.setdefault(line["record_id"], during)
        elif line["outcome"] in WRITTEN:
            self.failing.pop(line["record_id"], None)

    def check_sent(self, changed: list[Row]) -> None:
        """
        Hold what tries say they have sent and created against what has arrived since the last check.

        Not so where a process has died, and after a retry or a clear: what is counted twice there is not simple.
        """
        received = self.voucherify.received[self.requests :]
        bodies = [request.body or b"" for request in received if (request.method, request.status) == ("POST", 202)]
        self.requests = len(self.voucherify.received)
        new = set(self.voucherify.customers) - self.known
        self.known |= new
        if any(row["status"] in ("running", "lost") or row["try_number"] > 1 for row in changed):
            return
        told = [sum(row.get(name) or 0 for row in changed) for name in ("requests", "bytes_sent", "submitted")]
        assert told == [len(bodies), sum(map(len, bodies)), sum(len(json.loads(body)) for body in bodies)]
        lines = [line for row in changed for line in self.kept.lines_of(row["try_id"])]
        assert {line["record_id"] for line in lines if line["outcome"] == "created"} == new

    def check_state(self) -> None:
        """Hold the state against the changelog and Voucherify."""
        last: dict[str, Row] = {}
        confirmed: dict[str, Any] = {}
        ended = {try_id: moment(row.get("finished_at")) for try_id, row in self.kept.runs.items()}
        for line in sorted(self.kept.lines.values(), key=lambda line: ended[line["try_id"]] or 0):
            if line["outcome"] not in ("unchanged", "superseded") and line["reason_key"] != "max_attempts":
                last[line["record_id"]] = line
            if line["outcome"] in WRITTEN:
                confirmed[line["record_id"]] = line["content"]
        assert set(confirmed) <= set(self.voucherify.customers)
        for record_id, state in self.kept.states.items():
            since = moment(state["failing_since"])
            assert (since is not None) == (record_id in self.failing), (record_id, state)
            if since is not None:
                not_before, not_after = self.failing[record_id]
                assert not_before - 0.001 <= since <= not_after + 0.001
            if state["digest"] is not None or last[record_id]["outcome"] not in WRITTEN:
                assert state["outcome"] == last[record_id]["outcome"]
            if state["digest"] is None:  # nobody knows what Voucherify has
                continue
            assert state["content"] == confirmed[record_id]
            has = self.voucherify.customers[record_id]
            for name, value in json.loads(state["content"]).items():
                of_record = has[name]
                assert value.items() <= of_record.items() if name == "metadata" else value == of_record

    def all_is_there(self) -> None:
        """Check that Voucherify has each row of the source that it can have."""
        last = {row["id"]: row for row in self.rows if row["id"] is not None}
        for record_id, row in last.items():
            if row["tier"] == "tin":
                continue
            has = self.voucherify.customers[record_id]
            wanted = {name: value for name, value in row.items() if value is not None and name in ("tier", "optin")}
            assert (has["name"], wanted.items() <= has["metadata"].items()) == (row["name"], True), record_id
            assert self.kept.states[record_id]["digest"] is not None


def date(night: int) -> datetime:
    return FIRST_NIGHT + timedelta(days=night - 1)


def nothing_is_lost(before: Kept, now: Kept) -> None:
    """Check that the history has only been added to, except that a try which was open may have been closed."""
    assert {place: now.lines.get(place) for place in before.lines} == before.lines
    assert {name: now.files.get(name) for name in before.files} == before.files
    for try_id, row in before.runs.items():
        after = dict(now.runs[try_id])
        if row["status"] == "running" and after["status"] != "running":
            after = {name: value for name, value in after.items() if row.get(name) is not None} | {"status": "running"}
            row = {name: value for name, value in row.items() if value is not None}
        assert after == row
