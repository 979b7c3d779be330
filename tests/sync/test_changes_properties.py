"""
Only what changed: whatever the source does and whatever Voucherify answers, in the end Voucherify has the source.

Each run is a sync with the state of the runs before it, by way of a file, as the operator does it. A run may be
answered with reports or without, fail as a whole, or die after Voucherify has taken what it sent and before the state
is written.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList
from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.sync.batches.changes import Changes
from airflow_provider_voucherify.sync.batches.destination import BatchLimits, metadata_destination, update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.results.collect import collect_outcomes
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.rows.chunks import Rows
from airflow_provider_voucherify.sync.rows.failure_lines import EarlierFailures
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_cursor, from_records
from airflow_provider_voucherify.sync.sending.journal import Journal, Try
from airflow_provider_voucherify.sync.sending.submission import Submission
from airflow_provider_voucherify.sync.state.ledger import Ledger, RowOutcome
from airflow_provider_voucherify.sync.state.record_state import RecordState
from airflow_provider_voucherify.sync.state.state_file import read_state, write_state
from airflow_provider_voucherify.sync.types.outcome import confirmed_by

ANSWERS = ["report", "old report", "no report", "errors only", "expired", "whole", "silent"]
UNCLEAR = ["old report", "errors only", "whole", "silent"]
"""Answers that do not tell of each record whether it was taken: of one that was found and not updated nobody knows."""

BAD = 9
"""A value that Voucherify does not accept."""


@dataclass
class Voucherify:
    """Takes records but bad ones, and says so in one of the documented ways."""

    answer: str = "report"
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: list[tuple[str, list[tuple[str, bool, bool]]]] = field(default_factory=list)

    bulk_calls_must_wait = False

    def calls_left(self) -> int | None:
        return None

    def send(self, call: Call[Any]) -> Any:
        rows = []
        for record in json.loads(b"".join(call.body or ())):
            found, sent = record["source_id"] in self.stored, record.get("metadata", {})
            taken = sent.get("v") != BAD and self.answer != "whole"
            if taken:
                self.stored[record["source_id"]] = self.stored.get(record["source_id"], {}) | sent
            rows.append((record["source_id"], found, taken))
        self.results.append((self.answer, rows))
        return f"aa_{len(self.results) - 1}"

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        answer, rows = self.results[int(async_action_id[3:])]
        errors = [{"source_id": name, "key": "bad", "message": "bad"} for name, _, taken in rows if not taken]
        done = len(rows) - len(errors)
        result: dict[str, Any] = {"done_count": done, "failed_count": len(errors), "errors": errors}
        if answer in ("report", "expired"):
            result["reports"] = [async_action_id]
        if answer == "old report":
            result = {"results": [{"source_id": n, "found": f or t, "updated": t} for n, f, t in rows]}
        if answer == "errors only":
            result = {"errors": errors}
        if answer == "silent":
            result = {}
        status = "FAILED" if answer == "whole" else "DONE"
        return AsyncAction(id=async_action_id, type="CUSTOMERS.BULK_UPDATE", status=status, result=result)

    def list_async_actions(self, limit: int = 100, end_date: str | None = None) -> AsyncActionList:
        raise AssertionError("nothing is in doubt here")

    def download(self, url: str, file: BinaryIO) -> int:
        answer, rows = self.results[int(url[3:])]
        if answer == "expired":
            raise VoucherifyReportError("expired")
        lines = [f"{name},{str(found).lower()},{str(taken).lower()}\n" for name, found, taken in rows]
        return file.write(("source_id,found,updated\n" + "".join(lines)).encode())


@dataclass
class Sent:
    """What was sent, from the plan."""

    plan: Plan
    failed_before: EarlierFailures | None = None

    def ids(self, number: int) -> list[str]:
        return self.plan.batches[number - 1].ids()

    def body(self, number: int) -> bytes:
        return b"".join(self.plan.batches[number - 1].body())

    def set_aside_lines(self) -> list[bytes]:
        return []

    def refused_lines(self) -> list[bytes]:
        return []


def run(
    number: int, source: dict[str, int], voucherify: Voucherify, state: Path, *, crash: bool
) -> tuple[SyncSummary, list[RowOutcome]]:
    rows: list[dict[str, Any]] = [{"source_id": name, "v": value} for name, value in source.items()]
    rows += [{"source_id": None, "v": 0}, *rows[:1]]
    return run_rows(number, from_records(rows, "source_id"), voucherify, state, crash=crash)


def run_rows(
    number: int,
    rows: Rows,
    voucherify: Voucherify,
    state: Path,
    *,
    crash: bool = False,
    null_policy: Any = "omit",
    keep_values: bool = False,
    changes: Changes | None = None,
) -> tuple[SyncSummary, list[RowOutcome]]:
    destination = update_destination("customers")
    values = destination.around_item if keep_values else None
    ledger = Ledger(f"run {number}", "settings", everything=False, values=values)
    if state.exists():
        load(ledger, state)
    changes = changes or Changes(max_attempts=None)
    rules, limits = MappingRules(null_policy=null_policy), BatchLimits(max_records=2)
    with Plan(destination, rules, limits, ledger=ledger, changes=changes) as plan:
        plan.read(rows)
        ledger.doubt()
        keep(ledger, state)
        sync = Submission(plan, voucherify, Journal(None, Try()), 1).run()
        sent = Sent(plan, plan.failed_before)
        summary = collect_outcomes(sync, voucherify, resource="customers", sent=sent, ledger=ledger)
        outcomes = list(ledger.outcomes())
        if not crash:
            ledger.update_state()
            keep(ledger, state)
    return summary, outcomes


def keep(ledger: Ledger, state: Path) -> None:
    new = state.with_suffix(".new")
    with new.open("wb") as file:
        write_state(ledger, "customers", "sync", file)
    new.replace(state)


def load(ledger: Ledger, state: Path) -> None:
    with state.open("rb") as file:
        read_state(ledger, "customers", "sync", file)


SOURCES = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 3) | st.just(BAD), max_size=7)
RUNS = st.lists(st.tuples(SOURCES, st.sampled_from(ANSWERS), st.booleans()), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


@settings(max_examples=100)
@given(RUNS, SOURCES)
def test_voucherify_ends_up_with_the_source_and_every_row_has_one_outcome_per_run(
    runs: list[tuple[dict[str, int], str, bool]], last: dict[str, int]
) -> None:
    voucherify = Voucherify()
    with TemporaryDirectory() as folder:
        state = Path(folder, "state")
        for number, (source, answer, crash) in enumerate([*runs, (last, "report", False)]):
            voucherify.answer = answer
            summary, outcomes = run(number, source, voucherify, state, crash=crash)

            assert [outcome.row for outcome in outcomes] == list(range(1, (summary.rows_read or 0) + 1))
            superseded = 1 if source else 0
            counts = Counter(outcome.outcome for outcome in outcomes)
            assert (counts["refused"], counts["superseded"]) == (1, superseded)
            for outcome in outcomes:
                unsent = outcome.outcome == "unchanged"
                if outcome.id is not None and (unsent or confirmed_by(outcome.outcome, upserts=True)):
                    assert voucherify.stored[outcome.id]["v"] == source[outcome.id], "confirmed, and not there"
        for name, value in last.items():
            if value != BAD:
                assert voucherify.stored[name]["v"] == value
        sent = len(voucherify.results)

        again, _ = run(99, last, voucherify, state, crash=False)

    failing = sum(value == BAD for value in last.values())
    assert again.unchanged == len(last) - failing
    assert len(voucherify.results) - sent == -(-failing // 2), "only what failed is sent again"


VALUES = st.fixed_dictionaries({"v": st.sampled_from([None, 1, BAD]), "x": st.sampled_from([None, 1, 2])})
TABLES = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(TABLES, st.sampled_from(ANSWERS), st.sampled_from(["omit", "omit", "send"])), min_size=1, max_size=6
    ),
    st.sampled_from(["query", "dicts"]),
)
def test_a_value_that_became_empty_and_was_not_cleared_is_counted_every_night(
    runs: list[tuple[dict[str, dict[str, Any]], str, str]], kind: str
) -> None:
    """What Voucherify merges is the judge: it still has a value of which the row has none."""
    voucherify = Voucherify()
    with TemporaryDirectory() as folder:
        for number, (source, voucherify.answer, null_policy) in enumerate(runs):
            left = [[(name, values["v"], values["x"]) for name, values in source.items()]]
            rows = (
                from_cursor(["source_id", "v", "x"], lambda size, left=left: left.pop() if left else [])
                if kind == "query"
                else from_records([{"source_id": name, **values} for name, values in source.items()], "source_id")
            )
            summary, outcomes = run_rows(number, rows, voucherify, Path(folder, "state"), null_policy=null_policy)

            held = [
                (outcome.id, name)
                for outcome in outcomes
                if confirmed_by(outcome.outcome, upserts=True) or outcome.outcome == "unchanged"
                for name, value in source[str(outcome.id)].items()
                if value is None and voucherify.stored[str(outcome.id)].get(name) is not None
            ]
            assert summary.values_not_cleared is not None
            if any(answer in UNCLEAR for _, answer, _ in runs[:number]):
                assert summary.values_not_cleared >= len(held), "in doubt, Voucherify has what was sent"
            else:
                assert summary.values_not_cleared == len(held)
            assert bool(summary.warning) == bool(summary.values_not_cleared)


def test_a_policy_that_is_set_already_is_not_advised(tmp_path: Path) -> None:
    voucherify = Voucherify()

    def night(number: int, metadata: dict[str, Any], null_policy: str) -> str:
        rows = from_records([{"source_id": "c1", "metadata": metadata}], "source_id")
        summary, _ = run_rows(number, rows, voucherify, tmp_path / "state", null_policy=null_policy)
        return summary.warning or ""

    assert night(1, {"v": 1, "x": 1}, "omit") == ""
    assert "null_policy={'metadata': 'send'} sends null" in night(2, {"v": 1}, "omit")
    told = night(3, {"v": 1}, "send")
    assert "metadata.x (1); a member that metadata no longer has is cleared if it is there with null" in told
    assert "null_policy" not in told
    assert night(4, {"v": 1, "x": None}, "send") == ""


@settings(max_examples=100)
@given(st.lists(st.tuples(SOURCES, st.sampled_from(ANSWERS)), min_size=1, max_size=6), st.booleans())
def test_since_when_a_record_fails_and_what_was_confirmed_last_is_kept(
    runs: list[tuple[dict[str, int], str]], keep_values: bool
) -> None:
    failing: dict[str, float] = {}
    confirmed: dict[str, Any] = {}
    voucherify = Voucherify()
    with TemporaryDirectory() as folder:
        state = Path(folder, "state")
        for night, (source, voucherify.answer) in enumerate(runs, start=1):
            rows = from_records([{"source_id": name, "v": value} for name, value in source.items()], "source_id")
            with patch("airflow_provider_voucherify.sync.state.ledger.time.time", return_value=float(night)):
                _, outcomes = run_rows(night, rows, voucherify, state, keep_values=keep_values)
            for row in outcomes:
                name = str(row.id)
                sent = {"source_id": name, "metadata": {"v": source[name]}} if keep_values else None
                assert (row.content and json.loads(row.content)) == (None if row.outcome == "unchanged" else sent)
                if row.outcome == "failed":
                    failing.setdefault(name, night)
                elif confirmed_by(row.outcome, upserts=True):
                    failing.pop(name, None)
                    confirmed[name] = sent

            with Ledger("look", "settings", everything=False) as ledger:
                load(ledger, state)
                kept = ledger._db.execute(
                    "select id, failing_since, content from earlier.state left join earlier.confirmed using (id)"
                ).fetchall()

            assert {name: since / 1000 for name, since, _ in kept if since is not None} == failing
            contents = {name: json.loads(content) for name, _, content in kept if content is not None}
            assert contents == (confirmed if keep_values else {})


def test_what_was_confirmed_is_forgotten_once_values_are_not_kept_any_more(tmp_path: Path) -> None:
    voucherify, state = Voucherify(), tmp_path / "state"
    for night, (rows, keep_values) in enumerate([("a b", True), ("a b", False)]):
        source = [{"source_id": name, "v": night} for name in rows.split()[: 2 - night]]
        run_rows(night, from_records(source, "source_id"), voucherify, state, keep_values=keep_values)

    with Ledger("look", "settings", everything=False) as ledger:
        load(ledger, state)
        assert [name for (name,) in ledger._db.execute("select id from earlier.confirmed")] == ["b"]


def test_the_json_of_a_bare_id_and_of_a_mark_has_the_metadata_that_they_get(tmp_path: Path) -> None:
    mark = metadata_destination("customers", {"left": True})
    destination = metadata_destination("customers", {"audience": "spring"})
    with Ledger("run", "settings", values=destination.around_item, mark=mark.around_item) as ledger:
        unmarked = RecordState('b"', "settings", 1, None, 0, "updated", None, None, "before", 1.0)
        ledger.load_state([[[value] for value in astuple(unmarked)[:-1]]])
        with Plan(destination, ledger=ledger, changes=Changes(removed=mark)) as plan:
            plan.read(from_records(["a'"], "source_id", takes_ids=True))

            contents = [json.loads(row.content or "") for row in ledger.outcomes()]

    assert contents == [
        {"source_id": "a'", "metadata": {"audience": "spring"}},
        {"source_id": 'b"', "metadata": {"left": True}},
    ]


def test_a_refused_row_fails_too_until_it_is_confirmed_or_has_left(tmp_path: Path) -> None:
    voucherify, state = Voucherify(), tmp_path / "state"
    nights: list[dict[str, Any]] = [{"a": {1}, "b": {1}}, {"a": {1}, "b": {1}}, {"a": 1, "b": {1}}, {}]
    failing = []
    for night, values in enumerate(nights, start=1):
        source = [{"source_id": name, "v": value} for name, value in values.items()] or [{"source_id": "c", "v": 1}]
        changes = Changes(removed="report")
        with patch("airflow_provider_voucherify.sync.state.ledger.time.time", return_value=float(night)):
            run_rows(night, from_records(source, "source_id"), voucherify, state, changes=changes)
        with Ledger("look", "settings") as ledger:
            load(ledger, state)
            found = ledger._db.execute("select id, failing_since from earlier.state where failing_since is not null")
            failing.append({name: since / 1000 for name, since in found})

    assert failing == [{"a": 1, "b": 1}, {"a": 1, "b": 1}, {"b": 1}, {}]


@pytest.mark.parametrize("damage", ["truncated", "another version", "garbage"])
def test_a_state_that_cannot_be_used_is_an_error_and_not_half_a_state(damage: str, tmp_path: Path) -> None:
    voucherify, state = Voucherify(), tmp_path / "state"
    run(1, {"a": 1, "b": 2, "c": 3}, voucherify, state, crash=False)
    content = state.read_bytes()
    state.write_bytes(
        {
            "truncated": content[:-100],
            "another version": content.replace(b'"version": ', b'"version": 9', 1),
            "garbage": b"\x00" * 100,
        }[damage]
    )

    with Ledger("run 2", "settings", everything=False) as ledger:
        with pytest.raises(ValueError, match=r"damaged|version|no state"):
            load(ledger, state)
        assert ledger.known == 0


def test_a_state_of_other_settings_confirms_nothing(tmp_path: Path) -> None:
    voucherify, state = Voucherify(), tmp_path / "state"
    run(1, {"a": 1, "b": 2}, voucherify, state, crash=False)

    with Ledger("run 2", "other settings", everything=False) as ledger:
        load(ledger, state)
        assert ledger.has_other_settings
        with Plan(update_destination("customers"), ledger=ledger, changes=Changes()) as plan:
            plan.read(from_records([{"source_id": "a", "v": 1}, {"source_id": "b", "v": 2}], "source_id"))
            assert (plan.unchanged, sum(batch.records for batch in plan.batches)) == (0, 2)
