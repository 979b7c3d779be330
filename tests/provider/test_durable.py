"""Retries: what an earlier try has sent is waited for, not sent again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, run_dag
from installed import needs_store

from airflow_provider_voucherify.local_voucherify import DropAfter, DropBefore, LocalVoucherify, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.task.operator_run import OperatorRun

RECORDS = [{"source_id": f"c{i}", "n": i} for i in range(6)]


def sync(**kwargs: Any) -> DagRunResult:
    defaults = {
        "resource": "customers",
        "records": RECORDS,
        "requests": {"max_records": 2, "max_in_flight": 1},
        "retries": 1,
        "retry_delay": timedelta(0),
    }
    with DAG("durable", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", **{**defaults, **kwargs})
    return run_dag(dag)


def times_posted(voucherify: LocalVoucherify) -> Counter[str]:
    """How often Voucherify has taken each record."""
    return Counter(
        record["source_id"]
        for request in voucherify.received
        if request.method == "POST" and request.status == 202
        for record in json.loads(request.body)
    )


ONCE = {f"c{i}": 1 for i in range(6)}


@needs_store
def test_a_batch_that_was_not_taken_is_sent_by_the_next_try_and_no_other(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave("submit", Status(403), after=1)

    run = sync()

    assert run.state == "success"
    assert times_posted(voucherify) == ONCE
    summary = run.xcom("sync")
    assert (summary["created"], summary["requests"], summary["resubmitted"]) == (6, 2, 0)
    assert len(summary["async_action_ids"]) == 3


@needs_store
def test_of_two_requests_at_the_same_time_the_one_that_is_taken_is_waited_for(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave("submit", Status(403))

    run = sync(requests={"max_records": 2, "max_in_flight": 2})

    assert run.state == "success"
    assert times_posted(voucherify) == ONCE
    assert run.xcom("sync")["resubmitted"] == 0


@needs_store
def test_a_batch_whose_answer_was_lost_is_sent_again_and_what_it_created_is_unknown(
    voucherify: LocalVoucherify,
) -> None:
    voucherify.misbehave("submit", DropAfter(), after=1)

    run = sync()

    assert run.state == "success"
    assert len(voucherify.actions) == 4
    summary = run.xcom("sync")
    assert (summary["resubmitted"], summary["succeeded"], summary["created"]) == (1, 6, None)
    assert "1 request (2 records) may have reached Voucherify twice" in summary["warning"]


@needs_store
def test_a_batch_that_never_arrived_is_sent_again_and_counted(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave("submit", DropBefore(), after=1)

    run = sync()

    assert run.state == "success"
    assert len(voucherify.actions) == 3
    assert run.xcom("sync")["resubmitted"] == 1
    assert run.xcom("sync")["created"] == 6


@needs_store
def test_a_sibling_s_action_of_the_same_records_is_not_taken_for_ours(voucherify: LocalVoucherify) -> None:
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook

    with VoucherifyHook() as hook:
        hook.update_customers_in_bulk([{"source_id": "c2", "name": "Bo"}, {"source_id": "c3", "name": "Cy"}])
    voucherify.misbehave("submit", DropBefore(), after=1)

    run = sync()

    assert run.xcom("sync")["resubmitted"] == 1
    assert voucherify.customers["c3"]["metadata"] == {"n": 3}


@needs_store
def test_a_retry_after_a_timeout_sends_nothing(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(times=3, seconds=1)

    run = sync(completion_timeout=0.5, retries=9)

    assert run.state == "success"
    assert times_posted(voucherify) == ONCE
    assert (run.xcom("sync")["requests"], run.xcom("sync")["created"]) == (0, 6)


@needs_store
def test_content_decides_and_not_position(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    file = tmp_path / "customers.jsonl"

    def write(records: list[dict[str, Any]]) -> None:
        file.write_text("".join(json.dumps(record) + "\n" for record in records))

    write(RECORDS)
    voucherify.misbehave("submit", Status(403), after=2)

    run = sync(
        records=None,
        path=str(file),
        on_retry_callback=lambda context: write([{"source_id": "new1"}, {"source_id": "new2"}, *RECORDS[2:]]),
    )

    assert run.state == "success"
    assert times_posted(voucherify) == {**ONCE, "new1": 1, "new2": 1}


@needs_store
def test_an_action_that_failed_as_a_whole_is_sent_again(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(status="FAILED")

    run = sync()

    assert run.state == "success"
    assert times_posted(voucherify) == {**ONCE, "c0": 2, "c1": 2}
    assert run.xcom("sync")["created"] == 6


def test_a_task_that_is_not_durable_sends_everything_again(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave("submit", Status(409), after=2)

    assert sync(on_retry="restart").state == "success"
    assert times_posted(voucherify) == {**ONCE, "c0": 2, "c1": 2, "c2": 2, "c3": 2}


@needs_store
@pytest.mark.parametrize("deferrable", [True, False])
def test_mapped_tasks_do_not_inherit_each_other_s_actions(voucherify: LocalVoucherify, deferrable: bool) -> None:
    voucherify.misbehave("submit", DropAfter(), times=1)
    with DAG("durable_mapped", schedule=None) as dag:
        VoucherifyBulkUpdateOperator.partial(
            task_id="sync", resource="customers", retries=1, retry_delay=timedelta(0), deferrable=deferrable
        ).expand(records=[[{"source_id": one} for one in pair] for pair in ("ab", "cd")])

    run = run_dag(dag)

    assert run.state == "success"
    assert set(voucherify.customers) == {"a", "b", "c", "d"}
    assert len(voucherify.actions) == 3, "the batch in doubt was sent again, and no other"


@needs_store
def test_rejected_records_are_sent_again_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold"]}}}
    with LocalVoucherify(
        app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas={"customer": schema}, keep_bodies=True
    ) as server:
        connect(monkeypatch, server)
        records = [{"source_id": f"c{i}", "tier": "tin" if i == 3 else "gold"} for i in range(6)]

        def fix(context: Any) -> None:
            server.options.metadata_schemas["customer"]["properties"]["tier"]["eq"].append("tin")

        run = sync(records=records, on_retry="resend_failed", on_retry_callback=fix)

        assert run.state == "success"
        assert times_posted(server) == {**ONCE, "c3": 2}
        summary = run.xcom("sync")
        assert (summary["rows_read"], summary["submitted"], summary["created"], summary["failed"]) == (6, 6, 6, 0)
        assert summary["requests"] == 1


@needs_store
@pytest.mark.parametrize(("after", "sent"), [(1, [10, 10]), (2, [10, 3])], ids=["gone for try 2", "gone after that"])
def test_known_failures_do_not_become_successes_when_their_report_is_gone(
    monkeypatch: pytest.MonkeyPatch, after: int, sent: list[int]
) -> None:
    with LocalVoucherify(
        app_id=APP_ID, secret_key=SECRET_KEY, missing_vouchers="done", keep_bodies=True
    ) as server:  # only the report tells which codes do not exist
        connect(monkeypatch, server)
        for number in range(7):
            server.add_voucher(f"V{number}")
        server.misbehave("report", Status(404), after=after)

        run = sync(
            resource="vouchers",
            records=[{"code": f"V{number}", "metadata": {"n": 1}} for number in range(10)],
            requests={"max_records": 10},
            on_retry="resend_failed",
        )

        assert [len(json.loads(post.body)) for post in server.requests("POST", "/v1/vouchers/bulk/async")] == sent
        summary = run.xcom("sync")
        assert run.task_state("sync") == "failed"
        assert (summary["rows_read"], summary["succeeded"], summary["failed"]) == (10, 7, 3)


@needs_store
def test_failures_of_ids_that_are_not_ours_send_the_whole_batch_again(voucherify: LocalVoucherify) -> None:
    def change(action: Any, wire: dict[str, Any]) -> dict[str, Any]:
        if "result" in wire and action.id == first_of(voucherify):
            errors = [{"source_id": "C0", "key": "invalid_payload", "message": "no"}]
            return {**wire, "result": {"done_count": 1, "failed_count": 1, "errors": errors}}
        return wire

    voucherify.script_action(change)

    run = sync(on_retry="resend_failed")

    assert run.state == "success"
    assert times_posted(voucherify) == {**ONCE, "c0": 2, "c1": 2}
    assert run.xcom("sync")["succeeded"] == 6


def first_of(voucherify: LocalVoucherify) -> str:
    """Return the id of the action that was submitted first."""
    return next(iter(voucherify.actions))


@needs_store
def test_records_that_are_rejected_again_fail_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold"]}}}
    with LocalVoucherify(
        app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas={"customer": schema}, keep_bodies=True
    ) as server:
        connect(monkeypatch, server)
        records = [{"source_id": "c0", "tier": "gold"}, {"source_id": "c1", "tier": "tin"}]

        run = sync(records=records, on_retry="resend_failed", retries=3)

        assert run.task_state("sync") == "failed"
        assert times_posted(server) == {"c0": 1, "c1": 4}
        summary = run.xcom("sync")
        assert (summary["submitted"], summary["succeeded"], summary["failed"]) == (2, 1, 1)


@needs_store
def test_the_batches_of_all_actions_that_voucherify_does_not_know_are_sent_again_at_once(
    voucherify: LocalVoucherify,
) -> None:
    voucherify.misbehave("poll", Status(404), times=3)

    run = sync()

    assert run.state == "success", "each of them took a try"
    assert times_posted(voucherify) == dict.fromkeys(ONCE, 2)
    assert run.xcom("sync")["resubmitted"] == 3


@needs_store
def test_of_the_actions_that_voucherify_knows_none_is_sent_again(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave("poll", Status(404), times=1)

    run = sync()

    assert run.state == "success"
    assert sorted(times_posted(voucherify).values()) == [1, 1, 1, 1, 2, 2]
    assert run.xcom("sync")["resubmitted"] == 1


@needs_store
def test_what_goes_wrong_while_the_retry_is_prepared_does_not_hide_the_error(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    def unreachable(self: Any, *_: Any, **__: Any) -> Any:
        raise ConnectionError("the task state store is unreachable")

    monkeypatch.setattr(OperatorRun, "_note_unknown_actions", unreachable)
    voucherify.misbehave("poll", Status(404))

    assert sync(retries=0).state == "failed"

    said = task_log()
    assert "VoucherifyNotFoundError" in said.rpartition("the task state store is unreachable")[2]


@needs_store
def test_a_journal_that_cannot_be_read_does_not_hide_the_error(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise ConnectionError("the task state store is unreachable")

    monkeypatch.setattr(OperatorRun, "journal", unreachable)

    assert sync(retries=0, records=[("c1",)]).state == "failed"

    assert "without column names" in task_log().rpartition("the task state store is unreachable")[2]


@needs_store
@pytest.mark.parametrize("waits", [True, False])
def test_what_went_to_another_project_is_sent_again_to_this_one(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str], waits: bool
) -> None:
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, keep_bodies=True) as wrong:
        connect(monkeypatch, wrong)
        wrong.misbehave("submit", Status(403), after=2)

        run = sync(
            wait_for_completion=waits,
            on_retry_callback=lambda context: connect(monkeypatch, voucherify),
        )

        assert run.state == "success"
        assert set(wrong.customers) <= {"c0", "c1", "c2", "c3"}
    assert times_posted(voucherify) == ONCE
    assert run.xcom("sync")["resubmitted"] == 0
    assert "What an earlier try has sent went to another project: everything is sent again" in task_log()


@needs_store
def test_what_was_sent_again_counts_in_every_later_try(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave("submit", DropBefore())
    voucherify.misbehave("submit", Status(403), after=1)

    run = sync(retries=3)

    assert run.state == "success"
    assert times_posted(voucherify) == ONCE
    assert run.xcom("sync")["resubmitted"] == 1


@needs_store
def test_a_batch_in_doubt_still_is_when_it_is_refused_the_next_time(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave("submit", DropAfter())
    voucherify.misbehave("submit", Status(403))

    run = sync(requests={"max_records": 6, "max_in_flight": 1}, retries=2)

    assert run.state == "success"
    assert times_posted(voucherify) == ONCE
    assert len(voucherify.actions) == 2
    assert run.xcom("sync")["resubmitted"] == 1


def test_execution_timeout_ends_the_waiting_in_the_trigger_too(
    voucherify: LocalVoucherify, defer_at_once: None
) -> None:
    voucherify.next_actions(times=3, stuck="ENQUEUED")

    run = sync(deferrable=True, retries=0, execution_timeout=timedelta(seconds=2), completion_timeout=600)

    assert run.task_state("sync") == "failed"
    assert times_posted(voucherify) == ONCE
