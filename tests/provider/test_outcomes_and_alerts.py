"""What became of every row: where it is written, when it alarms, and how failed records are sent again."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Param
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, folder_of, last_outcomes, run_dag
from installed import HAS_TASK_STATE_STORE

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

TIERS = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold", "silver"]}}}
ROWS: list[dict[str, Any]] = [
    {"source_id": "known", "tier": "gold"},
    {"source_id": "new", "tier": "silver"},
    {"source_id": "twice", "tier": "gold"},
    {"source_id": "bad", "tier": "tin"},
    {"source_id": None, "tier": "gold"},
    {"source_id": "twice", "tier": "silver"},
]
OUTCOMES = [
    (1, "known", "updated"),
    (2, "new", "created"),
    (3, "twice", "superseded"),
    (4, "bad", "failed"),
    (5, None, "refused"),
    (6, "twice", "created"),
]


@pytest.fixture
def strict_voucherify(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
    """One that takes the tiers gold and silver, and has the customer ``known``."""
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas={"customer": TIERS}) as server:
        connect(monkeypatch, server)
        sync([{"source_id": "known"}], dag_id="earlier")
        yield server


def sync(records: list[dict[str, Any]] | None = None, *, dag_id: str = "outcomes", **kwargs: Any) -> DagRunResult:
    conf = kwargs.pop("conf", None)
    params = {"full_refresh": Param(False, type="boolean")}
    with DAG(dag_id, schedule=None, params=params, render_template_as_native_obj=bool(conf)) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=records, **kwargs)
    return run_dag(dag, run_conf=conf)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return list(parquet.read_table(path).to_pylist())
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcomes(path: Path) -> list[tuple[int | None, str | None, str]]:
    return [(None if row["row"] is None else int(row["row"]), row["id"], row["outcome"]) for row in read(path)]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("deferred", [True, False], ids=["deferred", "on the worker"])
def test_the_file_has_one_outcome_for_every_row(
    strict_voucherify: LocalVoucherify, ending: str, deferred: bool, tmp_path: Path, defer_at_once: None
) -> None:
    run = sync(
        ROWS,
        deferrable=deferred,
        fail_if={"failed": None},
        state={"path": str(tmp_path), "outcomes": ending},
        report_path=str(tmp_path / "reports"),
    )

    assert run.deferred_tasks() == ({"sync"} if deferred else set())
    path = last_outcomes(tmp_path)
    assert (path.suffix, outcomes(path)) == (f".{ending}", OUTCOMES)
    failed, refused = (row for row in read(path) if row["outcome"] in ("failed", "refused"))
    assert failed["key"] == "metadata_validation_failed"
    assert "gold,silver" in failed["details"]
    assert failed["async_action_id"] in run.xcom("sync")["async_action_ids"]
    assert (refused["key"], refused["async_action_id"]) == ("missing_key", None)


def test_that_parquet_cannot_be_written_is_told_before_anything_is_sent(
    strict_voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    before = len(strict_voucherify.actions)

    assert sync(ROWS, state={"path": str(tmp_path), "outcomes": "parquet"}).state == "failed"

    assert "writing .parquet needs pyarrow" in task_log()
    assert len(strict_voucherify.actions) == before


def test_each_run_has_a_file_of_its_own(strict_voucherify: LocalVoucherify, tmp_path: Path) -> None:
    kept = {"path": str(tmp_path), "outcomes": "jsonl"}
    sync(ROWS, fail_if={"failed": None}, state=kept)
    first = last_outcomes(tmp_path)

    sync([{"source_id": "known", "tier": "silver"}], state=kept)

    assert outcomes(first) == OUTCOMES
    assert outcomes(last_outcomes(tmp_path)) == [(1, "known", "updated")]


def test_mapped_tasks_have_a_file_and_a_state_each(strict_voucherify: LocalVoucherify, tmp_path: Path) -> None:
    def night() -> DagRunResult:
        with DAG("mapped_outcomes", schedule=None) as dag:
            VoucherifyBulkUpdateOperator.partial(
                task_id="sync",
                resource="customers",
                state={"path": str(tmp_path), "outcomes": "jsonl"},
            ).expand(records=[[{"source_id": "a", "tier": "gold"}], [{"source_id": "b", "tier": "silver"}]])
        return run_dag(dag)

    night()
    again = night()

    assert [
        outcomes(last_outcomes(Path(folder_of(tmp_path, "mapped_outcomes"), f"map_index={index}"))) for index in (0, 1)
    ] == [
        [(1, "a", "unchanged")],
        [(1, "b", "unchanged")],
    ]
    assert [again.xcom("sync", map_index=index)["requests"] for index in (0, 1)] == [0, 0]


@pytest.mark.parametrize(
    ("alarm", "said"),
    [
        ({"fail_if": {"failed": 1}}, "2 of 6 rows failed or were refused"),
        ({"fail_if": {"failed_ratio": 0.39}}, "40.00% of 5 rows that were sent or refused failed or were refused"),
        ({"fail_if": {"failed": 0, "failed_ratio": 0.5}}, "2 of 6 rows failed or were refused"),
        ({"fail_if": {"created": 1, "failed": None}}, "2 records were created"),
        ({"fail_if": {"superseded": 0, "failed": None}}, "1 of 6 rows was superseded by a later row"),
    ],
)
def test_a_threshold_fails_the_task_after_everything_is_written_down(
    strict_voucherify: LocalVoucherify, alarm: dict[str, Any], said: str, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    told: list[Any] = []

    run = sync(
        ROWS,
        state={"path": str(tmp_path), "outcomes": "jsonl"},
        on_failed_records_callback=told.append,
        retries=2,
        **alarm,
    )

    assert run.task_state("sync") == "failed"
    assert outcomes(last_outcomes(tmp_path)) == OUTCOMES
    assert run.xcom("sync")["created"] == 2
    assert len(told) == 1, "a retry would be told of it again"
    assert said in task_log()


@pytest.mark.parametrize(
    "alarm",
    [
        {"warn_if": {"failed": 1}},
        {"warn_if": {"failed_ratio": 0.3}},
        {"warn_if": {"created": 1}},
        {"warn_if": {"superseded": 0}},
    ],
    ids=lambda alarm: next(iter(alarm["warn_if"])),
)
def test_a_warning_goes_to_the_log_the_summary_and_the_callback_and_the_task_succeeds(
    strict_voucherify: LocalVoucherify, alarm: dict[str, Any], task_log: Callable[[], str]
) -> None:
    told: list[Any] = []

    run = sync(ROWS, fail_if={"failed": None}, on_failed_records_callback=told.append, **alarm)

    assert run.state == "success"
    warning = run.xcom("sync")["warning"]
    (name,) = alarm["warn_if"]
    assert f"{name} of warn_if is" in warning
    assert warning in told[0]["voucherify_summary"]["warning"]
    assert warning in task_log()


@pytest.mark.parametrize("kind", ["fail_if", "warn_if"])
def test_no_threshold_that_is_exceeded_hides_another(
    strict_voucherify: LocalVoucherify,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task_log: Callable[[], str],
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "w.db")}))
    told: list[Any] = []
    limits = {"failed": 1, "failed_ratio": 0.3, "created": 1, "superseded": 0}

    run = sync(
        ROWS,
        state="warehouse",
        on_failed_records_callback=told.append,
        **({"fail_if": {"failed": None}} | {kind: limits}),
    )

    with closing(sqlite3.connect(tmp_path / "w.db")) as db:
        (warning,) = db.execute("select warning from voucherify_runs").fetchone()
    assert (run.state == "failed") == (kind == "fail_if")
    text = told[0]["voucherify_text"]
    for place in (run.xcom("sync")["warning"], warning, text, told[0]["voucherify_html"], task_log()):
        assert [name for name in limits if f"and {name} of {kind} is" not in place] == []


def test_that_half_of_the_rows_share_an_id_is_told_unasked(strict_voucherify: LocalVoucherify) -> None:
    twice = [{"source_id": source_id, "tier": "gold"} for source_id in ("c", "c", "a", "b")]

    said, expected = (sync(twice * 2, **options).xcom("sync") for options in ({}, {"warn_if": {"superseded": 5}}))

    assert said["superseded"] == 5
    assert "5 of 8 rows were superseded by a later row with the same id" in said["warning"]
    assert expected["warning"] is None


@pytest.mark.parametrize("deferred", [True, False], ids=["deferred", "on the worker"])
def test_an_alert_tells_reasons_of_both_kinds(
    strict_voucherify: LocalVoucherify, deferred: bool, defer_at_once: None
) -> None:
    told: list[str] = []
    rows = (
        [{"source_id": None, "tier": "gold"}]
        + [{"source_id": None}] * 11
        + [{"source_id": f"c{n}", "tier": "tin"} for n in range(30)]
    )

    run = sync(rows, deferrable=deferred, on_failed_records_callback=lambda c: told.append(c["voucherify_text"]))

    assert run.xcom("sync")["failures_by_key"] == {"metadata_validation_failed": 30, "missing_key": 12}
    (text,) = told
    first, second = (line for line in text.splitlines() if line.startswith("- "))
    assert first.startswith("- 30 failed, metadata_validation_failed: ")
    assert "must be equal to one of gold,silver" in first
    assert first.endswith(": c0, c1, c2, …")
    assert second == "- 12 refused, missing_key: source_id is missing: row 1 (tier 'gold'), row 2, row 3, …"
    assert "To do: fix 42 rows in the source, or they fail again\n" in text


@pytest.mark.parametrize("deferred", [True, False], ids=["deferred", "on the worker"])
def test_an_alert_says_what_is_new_since_the_last_sync(
    strict_voucherify: LocalVoucherify, tmp_path: Path, deferred: bool, defer_at_once: None
) -> None:
    told: list[str] = []

    def night(rows: list[dict[str, Any]], **kwargs: Any) -> dict[str, Any]:
        run = sync(
            rows,
            state=str(tmp_path / "state"),
            deferrable=deferred,
            fail_if={"failed": None},
            on_failed_records_callback=lambda context: told.append(context["voucherify_text"]),
            **kwargs,
        )
        summary: dict[str, Any] = run.xcom("sync")
        return summary

    old = [{"source_id": "old", "tier": "tin"}, {"source_id": "odd", "tier": "gold", "birthdate": "soon"}]
    first = night(old)
    second = night(old)
    third = night([*old, {"source_id": "new", "tier": "tin"}, {"source_id": None}])
    fixed = night([{**row, "tier": "gold", "birthdate": None} for row in old])
    again = night(old)

    assert [first["newly_failed"], second["newly_failed"], third["newly_failed"]] == [None, 0, 1]
    assert [fixed["newly_failed"], again["newly_failed"]] == [0, 2]
    assert third["newly_failed_ids"] == ["new"]
    news = [[line for line in text.splitlines() if line.startswith("New since")] for text in told]
    assert news == [
        [],
        ["New since the last sync: 0"],
        ["New since the last sync: 1 (new)"],
        ["New since the last sync: 2 (odd, old)"],
    ]


EXPECTED = [
    {"source_id": "known", "tier": "gold"},
    {"source_id": "a", "tier": "tin"},
    {"source_id": "b", "tier": "tin"},
]


@pytest.mark.parametrize("keys", [["metadata_validation_failed"], ["{{ 'metadata_validation_' + 'failed' }}"]], ids=str)
def test_failures_that_are_expected_by_name_alarm_nobody(strict_voucherify: LocalVoucherify, keys: list[str]) -> None:
    told: list[Any] = []

    run = sync(EXPECTED, fail_if={"expected_keys": keys}, on_failed_records_callback=told.append)

    summary = run.xcom("sync")
    assert (run.state, summary["failed"], summary["updated"], told) == ("success", 2, 1, [])
    assert summary["failures_by_key"] == summary["expected_by_key"] == {"metadata_validation_failed": 2}
    assert [failure["id"] for failure in summary["failures"]] == ["a", "b"]


def test_beside_failures_that_alarm_expected_ones_are_told_in_one_line(strict_voucherify: LocalVoucherify) -> None:
    told: list[str] = []

    run = sync(
        [*EXPECTED, {"source_id": "c", "birthdate": "soon"}],
        fail_if={"failed": 0, "expected_keys": ["metadata_validation_failed", "not_found"]},
        on_failed_records_callback=lambda context: told.append(context["voucherify_text"]),
    )

    (text,) = told
    assert run.state == "failed"
    assert "1 updated, 2 failed, 1 refused\n" in text
    assert "Warning: 1 of 4 rows failed or was refused, besides 2 that were expected to, and failed" in text
    assert [line for line in text.splitlines() if "metadata_validation_failed" in line] == [
        "Expected: 2 metadata_validation_failed (a, b)"
    ]
    assert "\nTo do: fix 1 row in the source, or it fails again\n" in text


def test_a_row_without_an_id_is_named_by_its_place_and_another_column(strict_voucherify: LocalVoucherify) -> None:
    told: list[Any] = []
    rows = [{"source_id": "a"}, {"phone": None, "note": "secret", "source_id": None, "name": "Ann"}]

    sync(
        rows,
        exclude_columns=["note"],
        fail_if={"failed": None},
        on_failed_records_callback=lambda context: told.extend(
            context[name] for name in ("voucherify_text", "voucherify_html")
        ),
    )

    assert "- 1 refused, missing_key: source_id is missing: row 2 (name 'Ann')\n" in told[0]
    assert "<td>row 2 (name &#x27;Ann&#x27;)</td>" in told[1]


def test_a_warning_that_is_not_reached_says_nothing(strict_voucherify: LocalVoucherify) -> None:
    told: list[Any] = []

    run = sync(
        [{"source_id": "known", "tier": "gold"}],
        warn_if={"failed": 0, "failed_ratio": 0.0, "created": 0},
        on_failed_records_callback=told.append,
    )

    assert run.xcom("sync").get("warning") is None
    assert told == []


def test_a_full_refresh_sends_everything_once(strict_voucherify: LocalVoucherify, tmp_path: Path) -> None:
    changed = {
        "state": {"path": str(tmp_path / "state")},
        "full_refresh": "{{ params.full_refresh }}",
    }
    rows = [{"source_id": f"c{number}", "tier": "gold"} for number in range(5)]

    runs = [
        sync(rows, **changed, conf=conf).xcom("sync")
        for conf in ({"full_refresh": False}, {"full_refresh": False}, {"full_refresh": True}, {"full_refresh": False})
    ]

    assert [run["created"] for run in runs] == [5, 0, 0, 0]
    assert [run["updated"] for run in runs] == [0, 0, 5, 0]
    assert [run["unchanged"] for run in runs] == [0, 5, 0, 5]


def test_a_sample_is_no_source_that_records_have_left(strict_voucherify: LocalVoucherify, tmp_path: Path) -> None:
    books = {"state": {"path": str(tmp_path / "state"), "on_removed": "report"}}
    rows = [{"source_id": f"c{number}", "tier": "gold"} for number in range(5)]
    sync(rows, **books)

    sampled = sync([{**row, "tier": "silver"} for row in rows], sample=2, **books).xcom("sync")
    whole = sync([{**row, "tier": "silver"} for row in rows[:4]], **books).xcom("sync")

    assert (sampled["rows_read"], sampled["updated"], sampled["removed"]) == (2, 2, 0)
    assert (whole["updated"], whole["unchanged"], whole["removed"]) == (2, 2, 1)


def test_a_dry_run_of_a_sample_shows_the_very_json(
    strict_voucherify: LocalVoucherify, task_log: Callable[[], str]
) -> None:
    before = len(strict_voucherify.received)

    summary = sync(ROWS, sample=1, dry_run=True).xcom("sync")

    assert len(strict_voucherify.received) == before
    assert summary["rows_read"] == 1
    assert '[{"source_id":"known","metadata":{"tier":"gold"}}]' in task_log()


def redrive(reports: Path, books: dict[str, Any], **kwargs: Any) -> DagRunResult:
    settings = {"report_path": str(reports / "redriven"), "fail_if": {"failed": None}, **books, **kwargs}
    return sync(path=str(reports / "failures.jsonl"), dag_id="redrive", **settings)


def test_failed_records_are_sent_again_once_voucherify_takes_them(
    strict_voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    books = {"state": {"path": str(tmp_path / "state"), "sync_name": "customers", "outcomes": "jsonl"}}
    rows = [{"source_id": "bad", "tier": "tin"}, {"source_id": "good", "tier": "gold"}]
    first = sync(rows, report_path=str(tmp_path), fail_if={"failed": None}, **books).xcom("sync")
    strict_voucherify.set_metadata_schema("customer", {"properties": {}})

    again = redrive(tmp_path, books).xcom("sync")
    of_redrive = outcomes(last_outcomes(tmp_path))
    night = sync(rows, **books).xcom("sync")

    assert (first["failed"], first["created"]) == (1, 1)
    assert (again["rows_read"], again["created"]) == (1, 1)
    assert of_redrive == [(1, "bad", "created")]
    assert strict_voucherify.customers["bad"]["metadata"] == {"tier": "tin"}
    assert night["unchanged"] == 2, "what was sent again counts as confirmed"


def test_a_failure_that_was_mended_meanwhile_does_not_come_back(
    strict_voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    books = {"state": {"path": str(tmp_path / "state"), "sync_name": "customers", "outcomes": "jsonl"}}
    bad = {"source_id": "bad", "tier": "tin"}
    sync([bad], report_path=str(tmp_path), fail_if={"failed": None}, **books)
    sync([bad | {"tier": "gold"}], **books)
    strict_voucherify.set_metadata_schema("customer", {"properties": {}})

    again = redrive(tmp_path, books).xcom("sync")

    assert (again["superseded"], again["requests"]) == (1, 0)
    assert outcomes(last_outcomes(tmp_path)) == [(1, "bad", "superseded")]
    assert strict_voucherify.customers["bad"]["metadata"] == {"tier": "gold"}


def test_a_record_that_failed_too_often_is_set_aside_with_its_history(
    strict_voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    sync([{"source_id": "bad", "tier": "tin"}], report_path=str(tmp_path / "0"), fail_if={"failed": None})
    reports = tmp_path / "0"
    for number in (1, 2):
        redrive(reports, {}, report_path=str(tmp_path / str(number)), requests={"max_attempts": 3})
        reports = tmp_path / str(number)

    (aside,) = read(reports / "set_aside.jsonl")
    again, last = (
        sync(
            path=str(source / "set_aside.jsonl"),
            report_path=str(target),
            fail_if={"failed": None},
            requests={"max_attempts": 3},
        ).xcom("sync")
        for source, target in ((reports, tmp_path / "3"), (tmp_path / "3", tmp_path / "4"))
    )

    assert [(told["refused"], told["requests"]) for told in (again, last)] == [(1, 0)] * 2
    assert [told["failures"][0]["message"] for told in (again, last)] == [
        "failed 3 times and is not sent again; the last time: Metadata validation failed"
    ] * 2
    assert (reports / "failures.jsonl").read_bytes() == b""
    assert aside["source_id"] == "bad"
    assert aside["_failure"]["attempts"] == 3
    told = [*aside["_failure"]["history"], aside["_failure"]]
    assert [failure["key"] for failure in told] == ["metadata_validation_failed"] * 3
    assert len({failure["async_action_id"] for failure in told}) == 3


def test_a_retry_doubles_no_outcome(strict_voucherify: LocalVoucherify, tmp_path: Path) -> None:
    """The first try fails after its records were sent; the second finds what it has sent, or sends it again."""
    from airflow_provider_voucherify.local_voucherify import Status

    strict_voucherify.misbehave("poll", Status(409, {"message": "no"}), times=1)

    run = sync(
        ROWS,
        fail_if={"failed": None},
        state={"path": str(tmp_path), "outcomes": "jsonl"},
        retries=1,
        retry_delay=timedelta(0),
    )

    assert run.state == "success"
    path = last_outcomes(tmp_path)
    requests_of_fixture, posts = 1, len(strict_voucherify.requests("POST", "/v1/customers/bulk/async"))
    if HAS_TASK_STATE_STORE:
        assert outcomes(path) == OUTCOMES
        assert posts - requests_of_fixture == 1
    else:
        assert outcomes(path) == [(row, name, outcome.replace("created", "updated")) for row, name, outcome in OUTCOMES]
        assert posts - requests_of_fixture == 2
