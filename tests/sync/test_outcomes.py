"""From finished actions to a summary: against a local Voucherify, in every shape of result that it knows."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

import pytest
from openapi import assert_valid_requests

from airflow_provider_voucherify.client.calls import Body
from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Malformed, Status, Truncate
from airflow_provider_voucherify.sync.batches.destination import (
    BatchLimits,
    Destination,
    metadata_destination,
    update_destination,
)
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.results import finished
from airflow_provider_voucherify.sync.results.collect import collect_outcomes
from airflow_provider_voucherify.sync.results.finished import UnfinishedActionsError
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.rows.failure_lines import EarlierFailures
from airflow_provider_voucherify.sync.rows.sources import from_file, from_records
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync

STRICT = {"customers": {"properties": {"n": {"type": "number", "optional": True}}}}


class MemoryFolder:
    """A report folder that keeps its files in memory."""

    uri = "memory://reports"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def write(self, name: str) -> IO[bytes]:
        folder = self

        class File(io.BytesIO):
            def close(self) -> None:
                folder.files[name] = self.getvalue()
                super().close()

        return File()

    def names(self) -> list[str]:
        return list(self.files)

    def remove(self, name: str) -> None:
        del self.files[name]

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files["failures.jsonl"].splitlines()]


@dataclass
class Sync:
    """
    A whole sync by the engine and the synchronous client, without Airflow.

    :param sync: what was submitted; ids and numbers.
    """

    server: LocalVoucherify
    client: VoucherifyClient
    plan: Plan
    sync: SubmittedSync
    folder: MemoryFolder = field(default_factory=MemoryFolder)

    def ids(self, number: int) -> list[str]:
        return self.plan.batches[number - 1].ids()

    def body(self, number: int) -> bytes:
        return b"".join(self.plan.batches[number - 1].body())

    def refused_lines(self) -> Iterable[bytes]:
        return self.plan.refused_lines()

    def set_aside_lines(self) -> Iterable[bytes]:
        return self.plan.set_aside_lines()

    @property
    def failed_before(self) -> EarlierFailures:
        return self.plan.failed_before

    def settle(self, **changes: Any) -> SyncSummary:
        given: dict[str, Any] = {
            "refused_sample": [failure.sample() for failure in self.plan.refused_sample],
            "folder": self.folder,
            "sent": self,
        }
        return collect_outcomes(self.sync, self.client, **(given | changes))

    def sent_again(self) -> list[bytes]:
        """Return the bodies that re-driving the failures would send."""
        with Plan(self.plan.destination) as plan:
            plan.read(from_file(io.BytesIO(self.folder.files["failures.jsonl"]), "failures.jsonl"))
            return [b"".join(batch.body()) for batch in plan.batches]


Send = Callable[..., Sync]


@pytest.fixture
def send() -> Iterator[Send]:
    """Give a function that sends rows to a local Voucherify with options, and returns the submitted sync."""
    with ExitStack() as stack:
        servers: list[LocalVoucherify] = []

        def start(
            destination: Destination | str,
            rows: list[Any],
            *,
            max_records: int | None = None,
            prepare: Callable[[LocalVoucherify], object] = lambda server: None,
            **options: Any,
        ) -> Sync:
            server = stack.enter_context(LocalVoucherify(keep_bodies=True, **options))
            servers.append(server)
            prepare(server)
            settings = ConnectionSettings.build(
                application_id=server.options.app_id, secret_key=server.options.secret_key, host=server.base_url
            )
            client = stack.enter_context(VoucherifyClient(settings, retry=RetryPolicy(2, 0.01)))
            to = update_destination(destination) if isinstance(destination, str) else destination
            plan = stack.enter_context(Plan(to, limits=BatchLimits(max_records=max_records), keep_refused=True))
            plan.read(from_records(rows, to.endpoint.key, takes_ids=True))
            batches = [
                SubmittedBatch(
                    client.bulk(to.endpoint, Body(b.length, b.body)), b.records, action_type=to.endpoint.action_type
                )
                for b in plan.batches
            ]
            sync = SubmittedSync(tuple(batches), 0.0, plan.counts, len(batches), plan.bytes_to_send)
            return Sync(server, client, plan, sync)

        yield start
        for server in servers:
            assert_valid_requests(server.received)


def counts(summary: SyncSummary) -> dict[str, Any]:
    names = (
        "updated",
        "created",
        "succeeded",
        "unchanged",
        "not_updated",
        "failed",
        "refused",
        "superseded",
        "not_reported",
    )
    return {name: value for name in names if (value := getattr(summary, name)) != 0}


def add_customers(*ids: str) -> Callable[[LocalVoucherify], object]:
    def add(server: LocalVoucherify) -> None:
        settings = ConnectionSettings.build(
            application_id=server.options.app_id, secret_key=server.options.secret_key, host=server.base_url
        )
        with VoucherifyClient(settings) as client:
            client.bulk_update("customers", [{"source_id": name} for name in ids])

    return add


def add_vouchers(*codes: str) -> Callable[[LocalVoucherify], object]:
    def add(server: LocalVoucherify) -> None:
        for code in codes:
            server.add_voucher(code)

    return add


ROWS = [
    {"source_id": "old", "n": 1},
    {"source_id": "new", "n": 1},
    {"source_id": "bad", "n": "text"},
    {"source_id": "twice", "n": 1},
    {"source_id": "twice", "n": 2},
    {"source_id": None},
]


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ("full", {"updated": 1, "created": 2, "succeeded": 3}),
        ("several_reports", {"updated": 1, "created": 2, "succeeded": 3}),
        ("no_report", {"updated": None, "created": None, "succeeded": 3}),
        ("errors_only", {"not_reported": 3}),
    ],
)
@pytest.mark.parametrize("max_records", [None, 1, 3])
def test_every_row_is_accounted_for(send: Send, shape: str, known: dict[str, Any], max_records: int | None) -> None:
    sync = send(
        "customers",
        ROWS,
        max_records=max_records,
        prepare=add_customers("old"),
        result_shape=shape,
        metadata_schemas=STRICT,
    )

    summary = sync.settle()

    assert counts(summary) == {**known, "failed": 1, "refused": 1, "superseded": 1}
    assert (summary.rows_read, summary.submitted, summary.requests) == (6, 4, len(sync.plan.batches))
    assert [(failure.outcome, failure.id) for failure in summary.failures] == [("refused", None), ("failed", "bad")]
    assert {"source_id": "bad", "metadata": {"n": "text"}}.items() <= sync.folder.failures[1].items()
    assert sync.sent_again() == [b'[{"source_id":"bad","metadata":{"n":"text"}}]']


def test_the_legacy_shape_tells_as_much_as_a_report(send: Send) -> None:
    sync = send("vouchers", [{"code": "v1", "a": 1}, {"code": "v2", "a": 1}], prepare=add_vouchers("v1"), **LEGACY)

    assert counts(sync.settle()) == {"updated": 1, "succeeded": 1, "failed": 1}


LEGACY = {"result_shape": "legacy", "missing_vouchers": "done"}


@pytest.mark.parametrize("missing_vouchers", ["done", "failed"])
@pytest.mark.parametrize("metadata", [None, {"a": 1}])
def test_missing_vouchers_are_failures_however_the_api_counts_them(
    send: Send, missing_vouchers: str, metadata: dict[str, Any] | None
) -> None:
    rows = [{"code": code, "a": 1} for code in ("v1", "v2", "gone1", "gone2")]
    destination = metadata_destination("vouchers", metadata)
    sync = send(destination, rows, prepare=add_vouchers("v1", "v2"), missing_vouchers=missing_vouchers)

    summary = sync.settle()

    assert counts(summary) == {"updated": 2, "succeeded": 2, "failed": 2}
    assert {failure["_failure"]["id"] for failure in sync.folder.failures} == {"gone1", "gone2"}
    assert sync.server.vouchers.get("gone1") is None


def test_a_metadata_update_whose_errors_name_nobody_is_told_by_its_report(send: Send) -> None:
    destination = metadata_destination("customers", {"n": "text"})
    sync = send(destination, ["old", "new"], prepare=add_customers("old"), metadata_schemas=STRICT)

    summary = sync.settle()

    assert counts(summary) == {"failed": 2}
    assert {failure.id for failure in summary.failures} == {"old", "new"}
    assert len(sync.folder.failures) == 2


@pytest.mark.parametrize(
    "fault", [Status(404), Status(403), Truncate(30), Malformed(b""), Malformed(b"<html>")], ids=repr
)
def test_a_report_that_cannot_be_had_costs_only_what_it_knows(
    send: Send, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sync = send("customers", ROWS, metadata_schemas=STRICT)
    sync.server.misbehave("report", fault, times=None)

    with caplog.at_level(logging.WARNING):
        summary = sync.settle()

    assert counts(summary) == {
        "updated": None,
        "created": None,
        "succeeded": 3,
        "failed": 1,
        "refused": 1,
        "superseded": 1,
    }
    assert f"The report of {summary.async_action_ids[0]}" in caplog.text


def test_one_of_several_reports_that_cannot_be_had_makes_the_others_useless(send: Send) -> None:
    sync = send("customers", ["a", "b", "c"], result_shape="several_reports")
    sync.server.misbehave("report", Status(404), after=1, times=None)

    assert counts(sync.settle()) == {"updated": None, "created": None, "succeeded": 3}


def test_of_several_reports_what_failed_by_one_failed_even_if_another_cannot_be_had(send: Send) -> None:
    rows = [{"code": code, "a": 1} for code in ("gone", "v1", "v2")]
    sync = send("vouchers", rows, prepare=add_vouchers("v1", "v2"), missing_vouchers="done", **SEVERAL)
    sync.server.misbehave("report", Status(404), after=1, times=None)

    assert counts(sync.settle()) == {"updated": None, "succeeded": 2, "failed": 1}


SEVERAL = {"result_shape": "several_reports"}


def test_rows_about_records_that_were_not_sent_are_counted_in_a_warning(
    send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    sync = send("customers", ["a", "b"])
    report = b"Source ID,Found,Updated\r\na,true,true\r\nx,true,true\r\nB,true,true\r\n"
    sync.server.misbehave("report", Status(200, report), times=None)

    with caplog.at_level(logging.WARNING):
        summary = sync.settle()

    assert counts(summary) == {"not_reported": 2}, "two are counted as done, and three were written"
    assert summary.warning == "the reports name 2 records besides those that were sent"
    assert "names 2 records besides those that were sent" in caplog.text


def test_a_report_that_names_nobody_tells_nothing(send: Send, caplog: pytest.LogCaptureFixture) -> None:
    sync = send("customers", ["a", "b"])
    sync.server.misbehave("report", Status(200, b"id,found,updated\r\n1,true,true\r\n2,true,true\r\n"), times=None)

    with caplog.at_level(logging.WARNING):
        summary = sync.settle()

    assert counts(summary) == {"updated": None, "created": None, "succeeded": 2}
    assert "no column 'source_id', only id, found, updated" in caplog.text


def test_reports_are_kept_under_names_that_tell_their_batch(send: Send) -> None:
    one = send("customers", ["a", "b", "c"], max_records=2)
    several = send("customers", ["a", "b", "c"], result_shape="several_reports")
    one.settle()
    several.settle()

    assert one.folder.files["report-00001.csv"] == b"source_id,found,updated\r\na,false,true\r\nb,false,true\r\n"
    reports = {name for name in one.folder.files if name.startswith("report")}
    assert reports == {"report-00001.csv", "report-00002.csv"}
    assert sorted(set(several.folder.files) - {"failures.jsonl", "set_aside.jsonl"}) == [
        f"report-00001-{part}.csv" for part in (1, 2, 3)
    ]


def test_nothing_in_the_folder_passes_for_this_sync_s_that_is_not(send: Send) -> None:
    sync = send("customers", ["a", "b", "c"], max_records=2)
    others = ["report-00001-1.csv", "report-00003.csv", "report-100000.csv", "report-00002-12.csv"]
    theirs = {"report-1.csv": b"x", "report-00003.csv.gz": b"x", "notes.txt": b"x"}
    last_night = dict.fromkeys(["set_aside.jsonl", "failures.jsonl", "report-00001.csv", *others], b"old")
    sync.folder.files |= last_night | theirs
    sync.server.misbehave("report", Status(404), after=1, times=None)

    sync.settle()

    assert sync.folder.files == {
        "failures.jsonl": b"",
        "set_aside.jsonl": b"",
        "report-00001.csv": b"source_id,found,updated\r\na,false,true\r\nb,false,true\r\n",
        **theirs,
    }


def test_who_did_not_send_sets_nothing_aside(send: Send) -> None:
    sync = send("customers", ["a"])

    sync.settle(sent=None)

    assert sorted(sync.folder.files) == ["failures.jsonl", "report-00001.csv"]


def test_an_action_that_failed_as_a_whole_can_be_sent_again_whole(send: Send) -> None:
    sync = send(
        "customers",
        ["a", "b", "c"],
        max_records=2,
        prepare=lambda server: server.next_actions(status="FAILED"),
    )

    summary = sync.settle()

    assert counts(summary) == {"created": 1, "succeeded": 1, "failed": 2}
    assert summary.failed_async_action_ids == summary.async_action_ids[:1]
    assert summary.failures[0].key == "async_action_failed"
    assert sync.sent_again() == [b'[{"source_id":"a"},{"source_id":"b"}]']


def test_failures_that_the_api_does_not_name_put_the_whole_batch_into_the_file(send: Send) -> None:
    sync = send(
        "customers",
        ["a", "b"],
        result_shape="no_report",
        prepare=lambda server: server.next_actions(result_fields={"done_count": 1, "failed_count": 1}),
    )

    summary = sync.settle()

    assert counts(summary) == {"updated": None, "created": None, "succeeded": 1, "failed": 1}
    assert [line["source_id"] for line in sync.folder.failures] == ["a", "b"]


def test_without_the_bodies_the_file_names_ids_alone(send: Send) -> None:
    sync = send("customers", ROWS, metadata_schemas=STRICT)

    sync.settle(sent=None)

    assert [line["source_id"] for line in sync.folder.failures] == ["bad"]


def test_a_sensor_knows_what_the_actions_tell(send: Send) -> None:
    sync = send("customers", ROWS, metadata_schemas=STRICT)
    others = SubmittedSync(tuple(SubmittedBatch(name, None) for name in sync.sync.async_action_ids), 0.0)

    summary = collect_outcomes(others, sync.client)

    assert counts(summary) == {"created": 3, "succeeded": 3, "failed": 1}
    assert (summary.resource, summary.rows_read, summary.submitted) == ("customers", None, 4)


def test_actions_of_several_resources_have_no_resource(send: Send) -> None:
    sync = send("customers", ["a"])
    product = sync.client.bulk_update("products", [{"source_id": "p"}])
    ids = [*sync.sync.async_action_ids, product]

    summary = collect_outcomes(SubmittedSync(tuple(SubmittedBatch(name, None) for name in ids), 0.0), sync.client)

    assert (summary.resource, summary.created) == (None, 2)


def test_an_unfinished_action_stops_the_settling(send: Send) -> None:
    sync = send(
        "customers",
        ["a", "b", "c"],
        max_records=1,
        prepare=lambda server: [server.next_actions(), server.next_actions(stuck="IN_PROGRESS")],
    )

    with pytest.raises(UnfinishedActionsError, match="has not finished, although a later action has") as unfinished:
        sync.settle()
    assert unfinished.value.async_action_ids == sync.sync.async_action_ids[1:]
    assert unfinished.value.to_wait_for == [sync.sync.async_action_ids[2], sync.sync.async_action_ids[1]]


def test_an_action_that_was_seen_finished_is_not_fetched_again(send: Send) -> None:
    sync = send("customers", ["a"])
    (action_id,) = sync.sync.async_action_ids
    action = sync.client.get_async_action(action_id)

    sync.settle(seen={action_id: action})

    assert len(sync.server.requests("GET", f"/v1/async-actions/{action_id}")) == 1


def test_few_errors_are_remembered_however_many_actions_have_some(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"source_id": f"c{number:03}", "n": "text"} for number in range(240)]
    sync = send("customers", rows, max_records=20, metadata_schemas=STRICT)
    seen = {action_id: sync.client.get_async_action(action_id) for action_id in sync.sync.async_action_ids[-6:]}
    size = max(len(action.result_json or b"") for action in seen.values())
    monkeypatch.setattr(finished, "MAX_BYTES_REMEMBERED", 5 * size + size // 2)
    remembered: list[int] = []

    class Counter:
        def add(self, settled: Settled) -> None:
            assert settled.async_action_id not in seen
            remembered.append(sum(len((action.result or {})["errors"]) for action in seen.values()))

    summary = sync.settle(seen=seen, listeners=[Counter()])

    assert (summary.failed, len(sync.folder.failures)) == (240, 240)
    assert remembered == [80, 60, 40, 20, *[0] * 8], "of the first five actions, each until its turn"
    assert seen == {}
    looks = [len(sync.server.requests("GET", f"/v1/async-actions/{each}")) for each in sync.sync.async_action_ids]
    assert looks == [1] * 5 + [2] * 7


def test_zero_batches_are_a_summary_of_zeros(send: Send) -> None:
    summary = send("customers", []).settle()

    assert counts(summary) == {}
    assert (summary.rows_read, summary.submitted, summary.async_action_ids) == (0, 0, [])


def test_the_state_survives_as_json_and_ignores_what_it_does_not_know(send: Send) -> None:
    sync = send("customers", ["a", "b"], max_records=1).sync
    state = json.loads(json.dumps(sync.to_json()))

    assert SubmittedSync.from_json(state, sync.async_action_ids) == sync
    assert SubmittedSync.from_json(state | {"from": "the future"}, sync.async_action_ids) == sync
    assert (
        SubmittedSync.from_json({"columns": state["columns"], "submitted_at": 0.0}, sync.async_action_ids).submitted
        == 2
    )
    with pytest.raises(ValueError, match="longer"):
        SubmittedSync.from_json(state, sync.async_action_ids[:1])


def test_the_state_of_many_batches_has_equal_numbers_once() -> None:
    batches = [
        SubmittedBatch(f"aa_{n}", records, again, kind)
        for n, (records, again, kind) in enumerate(
            [
                *[(100, 0, "CUSTOMERS.BULK_UPDATE")] * 500,
                (100, 3, "CUSTOMERS.BULK_UPDATE"),
                (7, 0, None),
                (None, 0, None),
            ]
        )
    ]
    sync = SubmittedSync(tuple(batches), 0.0)
    state = json.dumps(sync.to_json())

    assert SubmittedSync.from_json(json.loads(state), sync.async_action_ids) == sync
    assert "aa_" not in state
    assert len(state) < 600


def test_the_state_of_an_earlier_version_is_read() -> None:
    batches = [["aa_1", 100, 2, "CUSTOMERS.BULK_UPDATE"], ["aa_2", 7, 0, None]]

    sync = SubmittedSync.from_json({"batches": batches, "submitted_at": 3.0, "rows_read": 105}, ())

    assert sync.batches == (SubmittedBatch("aa_1", 100, 2, "CUSTOMERS.BULK_UPDATE"), SubmittedBatch("aa_2", 7))
    assert (sync.submitted_at, sync.submitted) == (3.0, 105)
