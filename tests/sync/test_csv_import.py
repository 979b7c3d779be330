"""What became of the rows of an import, from results in every documented form, and what a retry sends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import DropAfter, DropBefore, LocalVoucherify, Status
from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS
from airflow_provider_voucherify.models.errors import (
    VoucherifyNoAnswerError,
    VoucherifyPermissionError,
    VoucherifyServerError,
)
from airflow_provider_voucherify.sync.batches.csv_file import CsvFile
from airflow_provider_voucherify.sync.results import finished
from airflow_provider_voucherify.sync.results.collect_import import collect_import_outcomes
from airflow_provider_voucherify.sync.results.finished import UnfinishedActionsError
from airflow_provider_voucherify.sync.results.settlement import settle
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.sending.journal import Journal, Try
from airflow_provider_voucherify.sync.sending.submission import RowsWithoutIdsError, Submission
from airflow_provider_voucherify.sync.types.counts import Counts
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync

CUSTOMERS = b"Source_id,Name\nc1,Ann\nc2,Bo\nc3,Cy\nc4,Di\n"


class Folder:
    """A folder on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def uri(self) -> str:
        return str(self.path)

    def write(self, name: str) -> IO[bytes]:
        return (self.path / name).open("wb")


class Store:
    """A state store in memory."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


class Answers:
    """Async actions that are what they are told to be."""

    def __init__(self, *actions: dict[str, Any]) -> None:
        self.actions = {f"aa_{n}": {"id": f"aa_{n}", "status": "DONE", **action} for n, action in enumerate(actions)}

    def send(self, call: Any) -> Any:
        raise AssertionError("nothing is to be sent")

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        return AsyncAction.model_validate(self.actions[async_action_id])


def csv_file(content: bytes, max_bytes: int = 10_000) -> CsvFile:
    file = CsvFile(CSV_IMPORT_ENDPOINTS["customers"], max_bytes)
    file.read(io.BytesIO(content))
    return file


def collect(
    *actions: dict[str, Any], rows: tuple[int, ...] = (4,), folder: Folder | None = None, file: CsvFile | None = None
) -> SyncSummary:
    batches = tuple(SubmittedBatch(f"aa_{n}", count) for n, count in enumerate(rows))
    sync = SubmittedSync(batches, submitted_at=0.0, counts=Counts(sum(rows)), requests=len(rows))
    return collect_import_outcomes(sync, Answers(*actions), resource="customers", folder=folder, file=lambda: file)


def result(done: int, *failed: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"result": {"message": "…", "failed": list(failed), "done_count": done, "failed_count": len(failed), **more}}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


def test_all_rows_imported() -> None:
    summary = collect(result(4))

    assert (summary.rows_read, summary.submitted, summary.succeeded, summary.failed) == (4, 4, 4, 0)
    assert (summary.updated, summary.created, summary.not_reported, summary.resource) == (None, None, 0, "customers")


def test_failed_rows_are_shown_with_their_numbers_and_reasons(tmp_path: Path) -> None:
    failed = (
        {"source_id": "c2", "row": 2, "reason": "tier: must be a string"},
        {"source_id": "", "row": 4, "reason": "bad"},
    )

    with csv_file(CUSTOMERS) as file:
        summary = collect(result(2, *failed), folder=Folder(tmp_path), file=file)

    assert (summary.succeeded, summary.failed, summary.not_reported) == (2, 2, 0)
    shown = [(one.id, one.message, one.details) for one in summary.failures]
    assert shown == [("c2", "tier: must be a string", "row 2 of the file"), (None, "bad", "row 4 of the file")]
    assert lines(tmp_path) == [
        {
            "Source_id": "c2",
            "Name": "Bo",
            "_failure": {
                "form": "row",
                "outcome": "failed",
                "id": "c2",
                "message": "tier: must be a string",
                "details": "row 2 of the file",
                "async_action_id": "aa_0",
                "row": 2,
            },
        },
        {
            "Source_id": "c4",
            "Name": "Di",
            "_failure": {
                "form": "row",
                "outcome": "failed",
                "message": "bad",
                "details": "row 4 of the file",
                "async_action_id": "aa_0",
                "row": 4,
            },
        },
    ]


def test_rows_are_numbered_through_all_parts(tmp_path: Path) -> None:
    with csv_file(CUSTOMERS, max_bytes=29) as file:
        assert [batch.records for batch in file.batches] == [2, 2]
        summary = collect(
            result(2), result(1, {"row": 2, "reason": "bad"}), rows=(2, 2), folder=Folder(tmp_path), file=file
        )

    assert (summary.succeeded, summary.failed) == (3, 1)
    assert summary.failures[0].details == "row 4 of the file"
    assert [line["Source_id"] for line in lines(tmp_path)] == ["c4"]


def test_without_the_file_rows_are_told_by_number_and_id(tmp_path: Path) -> None:
    collect(result(3, {"source_id": "c2", "row": 2, "reason": "bad"}), folder=Folder(tmp_path))

    [line] = lines(tmp_path)
    assert (line["source_id"], line["_failure"]["form"], line["_failure"]["row"]) == ("c2", "id", 2)


def test_failures_that_nobody_names_are_all_rows_that_were_not_named(tmp_path: Path) -> None:
    with csv_file(CUSTOMERS) as file:
        summary = collect(result(2, {"row": 2, "reason": "bad"}, failed_count=2), folder=Folder(tmp_path), file=file)

    assert (summary.succeeded, summary.failed) == (2, 2)
    reasons = {line["Source_id"]: line["_failure"]["message"] for line in lines(tmp_path)}
    assert reasons == {"c2": "bad"} | dict.fromkeys(("c1", "c3", "c4"), "Voucherify does not say which rows failed")


def test_rows_that_are_not_counted_are_not_reported() -> None:
    summary = collect(result(1, {"row": 2, "reason": "bad"}))

    assert (summary.succeeded, summary.failed, summary.not_reported) == (1, 1, 2)


def test_few_failures_are_remembered_however_many_parts_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [{"source_id": f"c{row}", "row": row, "reason": "bad"} for row in range(1, 21)]
    size = len(Answers(result(10, *failed)).get_async_action("aa_0").result_json or b"")
    monkeypatch.setattr(finished, "MAX_BYTES_REMEMBERED", 5 * size)
    seen: dict[str, AsyncAction] = {}
    remembered: list[int] = []

    class Counter:
        def add(self, settled: Settled) -> None:
            remembered.append(sum(len((action.result or {})["failed"]) for action in seen.values()))

    summary = collect_import_outcomes(
        SubmittedSync(tuple(SubmittedBatch(f"aa_{n}", 30) for n in range(12)), 0.0),
        Answers(*[result(10, *failed)] * 12),
        resource="customers",
        folder=Folder(tmp_path),
        seen=seen,
        listeners=[Counter()],
    )

    assert (summary.succeeded, summary.failed, len(lines(tmp_path))) == (120, 240, 240)
    assert lines(tmp_path)[-1]["_failure"]["row"] == 11 * 30 + 20
    assert remembered == [80, 60, 40, 20, *[0] * 8]


@pytest.mark.parametrize(
    "action",
    [
        {"status": "FAILED", "operation_status": "FAILED"},
        {"operation_status": "FAILED"},
        {"result": None},
        {"result": {"message": "…"}},
    ],
    ids=str,
)
def test_an_import_that_came_to_nothing_failed_as_a_whole(action: dict[str, Any], tmp_path: Path) -> None:
    with csv_file(CUSTOMERS) as file:
        summary = collect(action, folder=Folder(tmp_path), file=file)

    assert (summary.failed, summary.succeeded, summary.failed_async_action_ids) == (4, 0, ["aa_0"])
    assert "as a whole failed" in (summary.failures[0].message or "")
    assert len(lines(tmp_path)) == 4


@pytest.mark.parametrize(
    "failed",
    [None, {}, "none", [None, 5], [{"row": "two"}], [{"row": -1}], [{"row": 99, "reason": "bad"}]],
    ids=str,
)
def test_a_strange_list_of_failures_costs_only_their_names(failed: Any) -> None:
    summary = collect({"result": {"failed": failed, "done_count": 3, "failed_count": 1}})

    assert (summary.succeeded, summary.failed) == (3, 1)


def test_a_row_that_is_named_twice_failed_once() -> None:
    twice = [{"row": 2, "reason": "bad"}, {"row": 2, "reason": "worse"}, {"row": 3, "source_id": 7, "reason": "bad"}]
    summary = collect({"result": {"failed": twice, "done_count": 2}})

    assert (summary.succeeded, summary.failed, summary.not_reported) == (2, 2, 0)
    assert [failure.message for failure in summary.failures] == ["bad", "bad"]


def test_nothing_is_counted_before_all_parts_are_finished(tmp_path: Path) -> None:
    with pytest.raises(UnfinishedActionsError) as raised:
        collect(result(2), {"status": "IN_PROGRESS"}, rows=(2, 2), folder=Folder(tmp_path))

    assert raised.value.async_action_ids == ["aa_1"]
    assert list(tmp_path.iterdir()) == []


def test_the_vendor_s_documented_results_are_settled_without_knowing_the_file() -> None:
    """As a sensor sees them."""
    action = AsyncAction.model_validate(
        {
            "id": "aa_0c5543f00797b6113f",
            "type": "CUSTOMERS.IMPORT_CSV",
            "status": "DONE",
            **result(0, {"source_id": "a@b", "row": 1, "reason": "x"}, {"source_id": "", "row": 2, "reason": "y"}),
        }
    )

    outcome = settle(action, None, upserts=True)

    assert (outcome.records, outcome.failed, outcome.succeeded, outcome.failed_as_a_whole) == (2, 2, 0, False)
    assert (outcome.failures["a@b"].message, outcome.failures["a@b"].row) == ("x", 1)
    assert outcome.unnamed_reason is not None
    assert (outcome.unnamed_reason.message, outcome.unnamed_reason.details) == ("y", "row 2 of the file")


NAMELESS = b"Source_id,Name\n,Ann\n,Bo\n,Cy\n"


class TestSubmission:
    @pytest.fixture
    def server(self) -> Iterator[LocalVoucherify]:
        with LocalVoucherify(keep_bodies=True) as running:
            yield running

    @pytest.fixture
    def submit(self, server: LocalVoucherify) -> Iterator[Callable[..., SubmittedSync]]:
        store = Store()
        with ExitStack() as stack:
            settings = ConnectionSettings.build(
                application_id=server.options.app_id, secret_key=server.options.secret_key, host=server.base_url
            )
            client = stack.enter_context(VoucherifyClient(settings))

            def submit(content: bytes = CUSTOMERS, max_tries: int = 1, max_bytes: int = 29) -> SubmittedSync:
                file = stack.enter_context(csv_file(content, max_bytes=max_bytes))
                return Submission(file, client, Journal(store, Try(max_tries=max_tries))).run()

            yield submit

    def posts(self, server: LocalVoucherify) -> int:
        return len(server.requests("POST", "/v1/customers/importCSV"))

    def test_each_part_is_sent_once(self, server: LocalVoucherify, submit: Callable[..., SubmittedSync]) -> None:
        first, second = submit(), submit()

        assert (first.requests, first.counts.rows_read, first.bytes_sent) == (2, 4, 55)
        assert (second.requests, second.reattached, second.async_action_ids) == (0, 2, first.async_action_ids)
        assert self.posts(server) == 2

    def test_a_clear_sends_everything_again(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync]
    ) -> None:
        submit()

        assert submit(max_tries=2).requests == 2

    def test_what_was_refused_is_sent_by_the_next_try_and_nothing_else(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync]
    ) -> None:
        server.misbehave("/v1/customers/importCSV", Status(403), after=1)
        with pytest.raises(VoucherifyPermissionError):
            submit()

        sync = submit()

        assert (sync.requests, sync.reattached, sync.resubmitted) == (1, 1, 0)
        assert list(server.customers) == ["c1", "c2", "c3", "c4"]

    @pytest.mark.parametrize("too_large", [False, True])
    def test_parts_of_the_same_content_are_all_sent(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync], too_large: bool
    ) -> None:
        if too_large:
            server.misbehave("/v1/customers/importCSV", Status(413))
        server.misbehave("/v1/customers/importCSV", Status(403), after=1)
        same = b"Name,Note\n" + b"Ann,x\n" * 12
        with pytest.raises(VoucherifyPermissionError):
            submit(same)

        sync = submit(same)

        assert [batch.records for batch in sync.batches] == ([1, 2, 1, 2, 1, 2, 1, 2] if too_large else [3] * 4)
        assert len(set(sync.async_action_ids)) == len(sync.batches)
        assert len(server.customers) == 12

    @pytest.mark.parametrize("fault", [DropAfter(), DropBefore()], ids=repr)
    def test_a_part_whose_answer_was_lost_is_sent_again_if_its_rows_name_their_records(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync], fault: Any
    ) -> None:
        server.misbehave("/v1/customers/importCSV", fault)
        with pytest.raises(VoucherifyNoAnswerError):
            submit()

        sync = submit()

        assert (sync.requests, sync.resubmitted) == (2, 1)
        assert list(server.customers) == ["c1", "c2", "c3", "c4"]

    @pytest.mark.parametrize("fault", [DropAfter(), Status(500)], ids=repr)
    def test_rows_without_ids_are_not_sent_again_by_a_machine(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync], fault: Any
    ) -> None:
        nameless = b"Source_id,Name\n,Ann\n"
        server.misbehave("/v1/customers/importCSV", fault)
        with pytest.raises((VoucherifyNoAnswerError, VoucherifyServerError)):
            submit(nameless)

        with pytest.raises(RowsWithoutIdsError, match="rows from 1 on and its answer was lost"):
            submit(nameless)

        assert self.posts(server) == 1
        assert submit(nameless, max_tries=2).requests == 1

    @pytest.mark.parametrize(
        ("content", "max_bytes"), [(NAMELESS + b",Di\n", 100), (NAMELESS, 25)], ids=["grown", "split differently"]
    )
    def test_rows_without_ids_are_not_sent_again_where_the_parts_are_other_ones(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync], content: bytes, max_bytes: int
    ) -> None:
        submit(NAMELESS, max_bytes=100)
        posts = self.posts(server)

        with pytest.raises(RowsWithoutIdsError, match="no longer has 1 request of an earlier try, or is"):
            submit(content, max_bytes=max_bytes)

        assert self.posts(server) == posts
        assert submit(content, max_tries=2, max_bytes=max_bytes).requests, "a person may send them again"

    def test_a_changed_file_is_sent_where_it_has_changed(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync]
    ) -> None:
        submit()

        sync = submit(CUSTOMERS.replace(b"Di", b"Do"))

        assert (sync.requests, sync.reattached) == (1, 1)
        assert server.customers["c4"]["name"] == "Do"

    def test_the_halves_of_a_part_whose_answer_was_lost_are_in_doubt(
        self, server: LocalVoucherify, submit: Callable[..., SubmittedSync]
    ) -> None:
        server.misbehave("/v1/customers/importCSV", DropAfter())
        with pytest.raises(VoucherifyNoAnswerError):
            submit(max_bytes=1_000)
        server.misbehave("/v1/customers/importCSV", Status(413))

        sync = submit(max_bytes=1_000)

        assert [batch.resubmitted for batch in sync.batches] == [True, True]
        assert sync.resubmitted == 2, "a request that certainly was not taken does not count"
        assert "2 requests (4 records) may have reached Voucherify twice" in sync.warnings[0]
