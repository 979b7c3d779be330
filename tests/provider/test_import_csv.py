"""``VoucherifyImportCsvOperator`` in a DAG: from a file to what is in Voucherify, and the summary."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, run_dag
from installed import AIRFLOW, needs_store

from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError
from airflow_provider_voucherify.local_voucherify import DropAfter, LocalVoucherify, Status
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

IMPORT = "/v1/customers/importCSV"
SCHEMA = {"customer": {"properties": {"tier": {"type": "string", "optional": True, "eq": ["gold"]}}}}
ROWS = "Source_id,Name,tier\nc1,Ann,gold\nc2,Bo,tin\nc3,Cy,gold\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
    """A project that knows only one tier."""
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas=SCHEMA) as server:
        connect(monkeypatch, server)
        yield server


def import_csv(path: Path | str, **kwargs: Any) -> DagRunResult:
    defaults: dict[str, Any] = {"resource": "customers", "retry_delay": timedelta(0)}
    with DAG("import_csv", schedule=None) as dag:
        VoucherifyImportCsvOperator(task_id="import", path=str(path), **{**defaults, **kwargs})
    return run_dag(dag)


def test_rows_arrive_and_the_summary_counts_them(voucherify: LocalVoucherify, file: Path) -> None:
    run = import_csv(file)

    assert run.state == "success"
    assert voucherify.customers["c2"]["name"] == "Bo"
    summary = run.xcom("import")
    assert (summary["rows_read"], summary["submitted"], summary["succeeded"], summary["failed"]) == (3, 3, 3, 0)
    assert (summary["updated"], summary["created"], summary["requests"]) == (None, None, 1)
    assert summary["bytes_sent"] == len(ROWS)
    assert summary["async_action_ids"] == run.xcom("import", "async_action_ids")


def test_rows_with_the_same_id_are_counted_one_by_one(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("Source_id,Name\nc1,Ann\nc1,Bob\n")

    summary = import_csv(tmp_path / "file.csv").xcom("import")

    assert (summary["rows_read"], summary["succeeded"], summary["superseded"]) == (2, 2, 0)


@pytest.mark.parametrize(
    ("resource", "content"),
    [("products", "name,source_id\nShirt,p1\n"), ("skus", "product_id,source_id,sku\np1,s1,XS\n")],
)
def test_products_and_skus(voucherify: LocalVoucherify, tmp_path: Path, resource: str, content: str) -> None:
    (tmp_path / "products.csv").write_text("name,source_id\nShirt,p1\n")
    assert import_csv(tmp_path / "products.csv", resource="products").state == "success"
    (tmp_path / "file.csv").write_text(content)

    run = import_csv(f"file://{tmp_path}/file.csv", resource=resource)

    assert (run.xcom("import")["succeeded"], run.xcom("import")["resource"]) == (1, resource)
    assert len(voucherify.requests("POST", f"/v1/{resource}/importCSV")) == (2 if resource == "products" else 1)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.usefixtures("defer_at_once")
def test_failed_rows_are_told_with_number_and_reason(
    strict: LocalVoucherify, file: Path, tmp_path: Path, deferrable: bool
) -> None:
    told: list[Any] = []

    run = import_csv(
        file,
        deferrable=deferrable,
        retries=3,
        report_path=str(tmp_path / "reports"),
        on_failed_records_callback=told.append,
    )

    assert run.task_state("import") == "failed"
    assert len(strict.requests("POST", IMPORT)) == 1, "the task was retried"
    summary = run.xcom("import")
    assert (summary["succeeded"], summary["failed"]) == (2, 1)
    reason = "tier: must be a string, must be equal to one of gold (actual value is 'tin')"
    assert summary["failures"] == [
        {
            "outcome": "failed",
            "id": "c2",
            "row": 2,
            "hint": None,
            "key": None,
            "message": reason,
            "details": "row 2 of the file",
        }
    ]
    assert f"- 1 failed, no key: {reason}: c2\n" in told[0]["voucherify_text"]
    [line] = map(json.loads, (tmp_path / "reports" / "failures.jsonl").read_text().splitlines())
    assert (line["Source_id"], line["tier"], line["_failure"]["row"]) == ("c2", "tin", 2)


def test_some_rows_may_fail(strict: LocalVoucherify, file: Path) -> None:
    assert import_csv(file, fail_if={"failed_ratio": 0.4}).state == "success"
    assert import_csv(file, fail_if={"failed": 1}).state == "success"
    assert import_csv(file, fail_if={"failed_ratio": 0.3}).state == "failed"


def test_a_large_file_goes_in_several_requests(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    file.write_text("Source_id,Name\n" + "".join(f"c{n:04},{'x' * 90}\n" for n in range(50)))

    run = import_csv(file, requests={"max_bytes": 2_000})

    requests = voucherify.requests("POST", IMPORT)
    assert len(requests) == len(run.xcom("import")["async_action_ids"]) > 2
    assert all(request.body_bytes_length <= 2_000 for request in requests)
    assert (run.xcom("import")["succeeded"], len(voucherify.customers)) == (50, 50)


def test_a_file_without_rows_succeeds_and_sends_nothing(voucherify: LocalVoucherify, file: Path) -> None:
    file.write_text("Source_id,Name\n")

    run = import_csv(file, deferrable=True)

    assert run.state == "success"
    assert (run.xcom("import")["rows_read"], run.xcom("import")["requests"]) == (0, 0)
    assert voucherify.received == []


@pytest.mark.parametrize(
    "content", ["", "Source_id;Name\nc1;Ann\n", "Source_id,Name\nc1\n", 'Source_id\n"c1\n'], ids=repr
)
def test_a_file_that_might_be_misread_sends_nothing(voucherify: LocalVoucherify, file: Path, content: str) -> None:
    file.write_text(content)

    assert import_csv(file).state == "failed"
    assert voucherify.received == []


def test_a_file_that_is_not_there_fails_the_task(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    assert import_csv(tmp_path / "missing.csv").state == "failed"
    assert voucherify.received == []


def test_not_waiting_returns_what_was_queued(voucherify: LocalVoucherify, file: Path) -> None:
    with DAG("import_then_wait", schedule=None) as dag:
        send = VoucherifyImportCsvOperator(
            task_id="import", resource="customers", path=str(file), wait_for_completion=False
        )
        VoucherifyAsyncActionSensor(task_id="wait", async_action_ids=send.output["async_action_ids"])

    run = run_dag(dag)

    assert run.xcom("import")["succeeded"] is None
    assert (run.xcom("wait")["submitted"], run.xcom("wait")["succeeded"]) == (3, 3)


def test_a_sensor_says_why_rows_failed(strict: LocalVoucherify, file: Path, tmp_path: Path) -> None:
    with DAG("import_then_fail", schedule=None) as dag:
        send = VoucherifyImportCsvOperator(
            task_id="import", resource="customers", path=str(file), wait_for_completion=False
        )
        VoucherifyAsyncActionSensor(
            task_id="wait",
            async_action_ids=send.output["async_action_ids"],
            fail_if={"failed": 1},
            report_path=str(tmp_path / "reports"),
        )

    run = run_dag(dag)

    [failure] = run.xcom("wait")["failures"]
    assert (failure["id"], failure["details"]) == ("c2", "row 2 of the file")
    [line] = map(json.loads, (tmp_path / "reports" / "failures.jsonl").read_text().splitlines())
    assert (line["source_id"], line["_failure"]["row"]) == ("c2", 2)


def test_paths_and_connection_are_templated(voucherify: LocalVoucherify, file: Path, tmp_path: Path) -> None:
    run = import_csv(
        f"{tmp_path}/{{{{ params.name }}}}.csv",
        report_path=f"{tmp_path}/{{{{ params.name }}}}",
        voucherify_conn_id="voucherify_{{ params.which }}",
        params={"name": "customers", "which": "default"},
    )

    assert run.xcom("import")["report_uri"] == str(tmp_path / "customers")
    assert (tmp_path / "customers" / "failures.jsonl").read_text() == ""


class TestRetries:
    def posts(self, server: LocalVoucherify) -> int:
        return len(server.requests("POST", IMPORT))

    @needs_store
    def test_a_retry_waits_for_what_was_sent(self, voucherify: LocalVoucherify, file: Path) -> None:
        voucherify.misbehave("poll", Status(403))

        run = import_csv(file, retries=1)

        assert run.state == "success"
        assert self.posts(voucherify) == 1
        assert (run.xcom("import")["requests"], run.xcom("import")["succeeded"]) == (0, 3)

    def test_without_durable_it_sends_everything_again(self, voucherify: LocalVoucherify, file: Path) -> None:
        voucherify.misbehave("poll", Status(409))

        assert import_csv(file, on_retry="restart", retries=1).state == "success"
        assert self.posts(voucherify) == 2

    def test_without_durable_rows_without_ids_are_not_sent_again(
        self, voucherify: LocalVoucherify, file: Path, task_log: Callable[[], str]
    ) -> None:
        file.write_text("Name\nAnn\n")
        voucherify.misbehave("poll", Status(409))

        run = import_csv(file, on_retry="restart", retries=3)

        assert run.state == "failed"
        assert (self.posts(voucherify), run.dag_run.get_task_instance("import").try_number) == (1, 2)
        said = task_log()
        assert "a retry of this task will not send it" in said
        assert "importing them again may create them twice" in said

    @pytest.mark.parametrize(("content", "retries"), [("Name\nAnn\n", 0), (ROWS, 3)], ids=["no retries", "with ids"])
    def test_of_a_retry_that_changes_nothing_nobody_is_warned(
        self, voucherify: LocalVoucherify, file: Path, task_log: Callable[[], str], content: str, retries: int
    ) -> None:
        file.write_text(content)

        assert import_csv(file, on_retry="restart", retries=retries).state == "success"

        assert "will not send it" not in task_log()

    @needs_store
    def test_with_durable_rows_without_ids_are_waited_for(self, voucherify: LocalVoucherify, file: Path) -> None:
        file.write_text("Name\nAnn\n")
        voucherify.misbehave("poll", Status(403))

        assert import_csv(file, retries=1).state == "success"
        assert self.posts(voucherify) == 1

    @needs_store
    def test_a_lost_answer_is_counted(self, voucherify: LocalVoucherify, file: Path) -> None:
        voucherify.misbehave(IMPORT, DropAfter())

        run = import_csv(file, retries=1)

        assert run.xcom("import")["resubmitted"] == 1
        assert len(voucherify.customers) == 3

    @needs_store
    def test_a_part_whose_action_is_unknown_is_sent_again_and_counted(
        self, voucherify: LocalVoucherify, file: Path
    ) -> None:
        voucherify.misbehave("poll", Status(404))

        run = import_csv(file, retries=1)

        assert (run.state, self.posts(voucherify)) == ("success", 2)
        assert run.xcom("import")["resubmitted"] == 1

    @needs_store
    def test_rows_without_ids_whose_action_is_unknown_are_not_sent_again(
        self, voucherify: LocalVoucherify, file: Path, task_log: Callable[[], str]
    ) -> None:
        file.write_text("Name\nAnn\n")
        voucherify.misbehave("poll", Status(404))

        run = import_csv(file, retries=1)

        assert (run.state, self.posts(voucherify)) == ("failed", 1)
        assert "or Voucherify does not know its action. Some rows have no source_id" in task_log()

    @pytest.mark.parametrize("deferrable", [False, True])
    @pytest.mark.usefixtures("defer_at_once")
    def test_what_failed_as_a_whole_is_sent_again(
        self, voucherify: LocalVoucherify, file: Path, deferrable: bool
    ) -> None:
        if deferrable and AIRFLOW == (3, 0):
            pytest.skip("Airflow 3.0 gives a retry the event of the try before, so it begins where that has ended")
        voucherify.next_actions(status="FAILED")

        run = import_csv(file, retries=1, deferrable=deferrable)

        assert run.state == "success"
        assert (self.posts(voucherify), run.xcom("import")["succeeded"]) == (2, 3)

    @needs_store
    def test_rows_without_ids_that_failed_as_a_whole_are_left_to_a_person(
        self, voucherify: LocalVoucherify, file: Path
    ) -> None:
        file.write_text("Name\nAnn\n")
        voucherify.next_actions(status="FAILED")

        run = import_csv(file, retries=2)

        assert run.state == "failed"
        assert self.posts(voucherify) == 1

    def test_an_action_that_voucherify_does_not_know_is_sent_again(
        self, voucherify: LocalVoucherify, file: Path
    ) -> None:
        voucherify.misbehave("poll", Status(404))

        assert import_csv(file, retries=1).state == "success"
        assert self.posts(voucherify) == 2

    @pytest.mark.usefixtures("defer_at_once")
    def test_a_file_that_changed_while_waiting_is_not_shown_for_what_was_sent(
        self, strict: LocalVoucherify, file: Path, tmp_path: Path
    ) -> None:
        def change(action: Any, wire: dict[str, Any]) -> dict[str, Any]:
            file.write_text(ROWS.replace("Bo", "Bea"))
            return wire

        strict.script_action(change)

        import_csv(file, deferrable=True, report_path=str(tmp_path / "reports"))

        [line] = map(json.loads, (tmp_path / "reports" / "failures.jsonl").read_text().splitlines())
        assert (line["source_id"], line["_failure"]["form"], line["_failure"]["row"]) == ("c2", "id", 2)

    def test_a_time_out_fails(self, voucherify: LocalVoucherify, file: Path) -> None:
        voucherify.next_actions(stuck="ENQUEUED")

        assert import_csv(file, completion_timeout=0.1).state == "failed"


class TestASmallerLimit:
    """Voucherify may take smaller files than before: those that are too large are sent in halves."""

    ROWS = 50

    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
        """One that takes 2,000 bytes, and knows only one tier."""
        options: dict[str, Any] = {"max_body_bytes": 2_000, "metadata_schemas": SCHEMA, "keep_bodies": True}
        with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, **options) as server:
            connect(monkeypatch, server)
            yield server

    @pytest.fixture(params=["Source_id", "Number"])
    def large(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        """A file of 5,000 bytes, with ids and without."""
        path = tmp_path / "large.csv"
        tiers = {41: "iron"}
        rows = [f"c{n:04},{'x' * 82},{tiers.get(n, 'gold')}\n" for n in range(1, self.ROWS + 1)]
        path.write_text(f"{request.param},Name,tier\n" + "".join(rows))
        return path

    def times_taken(self, server: LocalVoucherify) -> Counter[str]:
        taken = [request.body.decode() for request in server.received if request.body and request.status == 202]
        return Counter(re.findall(r"^(c\d{4}),", "".join(taken), re.MULTILINE))

    def posted(self, server: LocalVoucherify, status: int) -> int:
        return len([request for request in server.requests("POST", IMPORT) if request.status == status])

    @pytest.mark.parametrize("deferrable", [False, True])
    @pytest.mark.usefixtures("defer_at_once")
    def test_a_part_that_is_too_large_is_halved_until_it_fits(
        self, small: LocalVoucherify, large: Path, tmp_path: Path, deferrable: bool
    ) -> None:
        run = import_csv(
            large,
            deferrable=deferrable,
            report_path=str(tmp_path / "reports"),
            fail_if={"failed": 1},
            requests={"max_bytes": 9_000},
        )

        assert run.state == "success"
        assert run.deferred_tasks() == ({"import"} if deferrable else set())
        assert set(self.times_taken(small).values()) == {1}
        assert len(self.times_taken(small)) == self.ROWS
        assert self.posted(small, 413) == 2, "the second half was tried although it is as large as the first"
        summary = run.xcom("import")
        assert (summary["submitted"], summary["succeeded"], summary["failed"]) == (50, 49, 1)
        assert summary["requests"] == len(summary["async_action_ids"]) == self.posted(small, 202) == 4
        [line] = map(json.loads, (tmp_path / "reports" / "failures.jsonl").read_text().splitlines())
        assert (line["tier"], line["Name"], line["_failure"]["row"]) == ("iron", "x" * 82, 41)
        assert line["_failure"]["details"] == "row 41 of the file"

    @pytest.mark.needs_airflow("3.3", "the task state store came with it")
    @pytest.mark.parametrize("after", range(2, 6))
    def test_a_retry_knows_the_halves(self, small: LocalVoucherify, large: Path, after: int) -> None:
        small.misbehave(IMPORT, Status(403), after=after)

        run = import_csv(large, retries=1, fail_if={"failed": 1}, requests={"max_bytes": 9_000})

        assert run.state == "success"
        assert set(self.times_taken(small).values()) == {1}
        assert self.posted(small, 413) == 2, "the retry did not know what is too large"
        assert (run.xcom("import")["submitted"], run.xcom("import")["failed"]) == (50, 1)
        assert run.xcom("import")["requests"] == 4 - (after - 2)

    def test_a_single_row_that_is_too_large_fails_the_task(
        self, small: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
    ) -> None:
        file = tmp_path / "one.csv"
        file.write_text(f"Source_id,Name\nc1,Ann\nc2,{'x' * 3_000}\nc3,Cy\n")

        run = import_csv(file, requests={"max_bytes": 9_000})

        assert run.state == "failed"
        assert list(small.customers) == ["c1"]
        assert "Too large for Voucherify: rows from 2 on (1 record, 3,019 bytes)" in task_log()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"resource": "vouchers"}, "unknown resource 'vouchers': it must be one of customers, products, skus"),
        ({"poll_interval": 0}, "poll_interval must be seconds or a timedelta, more than 0"),
        ({"requests": {"max_bytes": 100}}, "max_bytes of requests must be a number from 1000 to 10485760, not 100"),
        ({"fail_if": {"failed_ratio": 2}}, "failed_ratio of fail_if must be a number from 0 to 1, not"),
        ({"path": None}, "task 'import': path= is missing"),
        ({"path": ["x.csv"]}, "path must be a path or an object storage URI, not"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        VoucherifyImportCsvOperator(task_id="import", **{"resource": "customers", "path": "x.csv", **wrong})
