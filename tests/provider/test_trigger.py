"""``VoucherifyAsyncActionTrigger``: it reads, it waits, it survives being moved."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from connections import connect
from cryptography.fernet import Fernet

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import DropAfter, LocalVoucherify, RateLimited, Status
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync
from airflow_provider_voucherify.triggers.async_action import VoucherifyAsyncActionTrigger


def submit(times: int = 1) -> list[str]:
    with VoucherifyHook() as hook:
        return [hook.update_customers_in_bulk([{"source_id": f"c{i}"}]) for i in range(times)]


def trigger(ids: Sequence[str], **kwargs: Any) -> VoucherifyAsyncActionTrigger:
    defaults = {"submitted_at": time.time(), "end_time": time.time() + 5, "poll_interval": 0.02}
    return VoucherifyAsyncActionTrigger("voucherify_default", ids, **{**defaults, **kwargs})


async def fired(of: VoucherifyAsyncActionTrigger) -> dict[str, Any]:
    [event] = [event async for event in of.run()]
    payload: dict[str, Any] = event.payload
    return payload


def fire(*triggers: VoucherifyAsyncActionTrigger) -> list[dict[str, Any]]:
    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*map(fired, triggers))

    return asyncio.run(all_of_them())


def set_connection(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    name = "AIRFLOW_CONN_VOUCHERIFY_DEFAULT"
    monkeypatch.delenv(name) if text is None else monkeypatch.setenv(name, text)


def gets(voucherify: LocalVoucherify) -> list[str]:
    return [request.path for request in voucherify.received if request.method == "GET"]


def test_a_serialised_trigger_is_the_same_trigger() -> None:
    original = trigger(
        ["aa_1", "aa_2"],
        not_before=7.0,
        max_consecutive_failures=3,
        state={"sync": {"columns": {"records": [2, 3]}}},
        unfinished_from=1,
    )

    path, kwargs = original.serialize()
    again = VoucherifyAsyncActionTrigger(**json.loads(json.dumps(kwargs)))

    assert path.endswith(f"{VoucherifyAsyncActionTrigger.__module__}.VoucherifyAsyncActionTrigger")
    assert again.serialize() == (path, kwargs)
    assert {"voucherify_conn_id", "async_action_ids", "state"} < set(kwargs)


def test_it_fires_when_the_last_action_has_finished(voucherify: LocalVoucherify) -> None:
    ids = submit(3)

    [event] = fire(trigger(ids, state={"kept": 1}))

    assert event == {
        "version": 2,
        "status": "finished",
        "message": None,
        "async_action_ids": ids,
        "state": {"kept": 1},
    }
    assert gets(voucherify) == [f"/v1/async-actions/{ids[-1]}", "/v1/async-actions"], "the list is read to be sure"
    assert len(json.dumps(event)) < 1_000


def test_it_waits_for_those_that_were_not_polled_after_an_unfinished_one(voucherify: LocalVoucherify) -> None:
    ids = submit(3)

    [event] = fire(trigger(ids, unfinished_from=1))

    assert trigger(ids, unfinished_from=1).waiting_for == [ids[2], ids[1]]
    assert gets(voucherify)[0] == f"/v1/async-actions/{ids[1]}", "the one that was found unfinished is polled first"
    assert f"/v1/async-actions/{ids[0]}" not in gets(voucherify)
    assert event["async_action_ids"] == ids


def test_an_event_of_an_earlier_version_is_read(voucherify: LocalVoucherify) -> None:
    """A task that was deferred when the provider was upgraded; its trigger may or may not have been upgraded too."""
    ids = submit(2)
    state = {
        "sync": {"batches": [[each, 1, 0, "CUSTOMERS.BULK_UPDATE"] for each in ids], "submitted_at": time.time()},
        "end_time": time.time() + 30,
        "staged": None,
    }
    old = {"version": 1, "status": "finished", "message": None, "state": state}
    [of_new_trigger] = fire(trigger(ids[1:], state=state))
    sensor = VoucherifyAsyncActionSensor(task_id="wait", async_action_ids=ids)

    for event in (old, of_new_trigger):
        summary = sensor.execute_complete({}, event)

        assert (summary["async_action_ids"], summary["created"], summary["submitted"]) == (ids, 2, 2)


def test_its_arguments_fit_where_airflow_stores_them() -> None:
    def of_batches(count: int) -> VoucherifyAsyncActionTrigger:
        ids = [f"aa_{number:018x}" for number in range(count)]
        batches = (SubmittedBatch(each, 1_000 + at, 0, "CUSTOMERS.METADATA_UPDATE") for at, each in enumerate(ids))
        state = {"sync": SubmittedSync(tuple(batches), time.time()).to_json(), "end_time": time.time()}
        return trigger(ids, state=state)

    most = next(of_batches(count) for count in range(2_000, 0, -10) if of_batches(count).fits)

    assert len(most.async_action_ids) >= 1_400
    stored = Fernet(Fernet.generate_key()).encrypt(json.dumps(most.serialize()[1]).encode())
    assert len(stored) < 65_535, "what a TEXT of MySQL takes"
    assert not of_batches(len(most.async_action_ids) + 10).fits


def test_it_sends_nothing_but_gets(voucherify: LocalVoucherify) -> None:
    ids = submit()
    before = len(voucherify.received)

    fire(trigger(ids))

    assert {request.method for request in voucherify.received[before:]} == {"GET"}


def test_status_comes_before_deadline(voucherify: LocalVoucherify) -> None:
    [event] = fire(trigger(submit(), end_time=time.time() - 3_600))

    assert event["status"] == "finished", "an action that finished while the triggerer was down counts as finished"


def test_time_runs_out(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(stuck="IN_PROGRESS")

    [event] = fire(trigger(submit(), end_time=time.time() + 0.1))

    assert event["status"] == "timeout"


def test_it_does_not_fire_before_it_may(voucherify: LocalVoucherify) -> None:
    not_before = time.time() + 0.3

    fire(trigger(submit(), not_before=not_before))

    assert time.time() >= not_before


def test_transient_failures_are_survived(voucherify: LocalVoucherify) -> None:
    ids = submit()
    voucherify.misbehave("poll", Status(503), times=2)
    voucherify.misbehave("poll", DropAfter(), times=1)

    [event] = fire(trigger(ids, max_consecutive_failures=4, end_time=time.time() + 30))

    assert event["status"] == "finished"


def test_failures_beyond_the_budget_and_final_errors_are_said(voucherify: LocalVoucherify) -> None:
    [event] = fire(trigger(["aa_00"]))

    assert event["status"] == "unreachable"
    assert "Cannot find async_action" in event["message"]


def test_a_limit_that_outlasts_the_patience_of_its_client_is_waited_for(
    voucherify: LocalVoucherify, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = submit()
    voucherify.misbehave("poll", RateLimited(retry_after=3_000))

    [event] = fire(trigger(ids, max_consecutive_failures=1, end_time=time.time() + 1))

    assert event["status"] == "timeout"
    assert "could not be polled in time: GET" in event["message"]
    assert len(gets(voucherify)) == 1, "what is known to be refused is not sent"
    assert f"UTC (rate limit): GET {voucherify.base_url}/v1/async-actions" in capsys.readouterr().out


def test_without_actions_it_is_an_alarm_clock_that_sends_nothing(voucherify: LocalVoucherify) -> None:
    not_before = time.time() + 0.3

    [event] = fire(trigger([], not_before=not_before))

    assert event["status"] == "finished"
    assert time.time() >= not_before
    assert voucherify.received == []


@pytest.mark.parametrize("connection", [None, "{not JSON", '{"conn_type": "voucherify"}'])
def test_a_connection_that_cannot_be_read_is_said_and_does_not_end_the_task(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, connection: str | None
) -> None:
    ids = submit()
    set_connection(monkeypatch, connection)

    [event] = fire(trigger(ids, max_consecutive_failures=3, state={"kept": 1}))

    assert (event["status"], event["state"]) == ("unreachable", {"kept": 1})
    assert "the connection voucherify_default cannot be opened" in event["message"]
    assert gets(voucherify) == []


def test_a_connection_that_can_be_read_again_is_all_that_is_needed(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = submit()

    async def mended_meanwhile() -> dict[str, Any]:
        set_connection(monkeypatch, "{not JSON")
        waiting = asyncio.create_task(fired(trigger(ids, max_consecutive_failures=1_000)))
        await asyncio.sleep(0.3)
        connect(monkeypatch, voucherify)
        return await waiting

    assert asyncio.run(mended_meanwhile())["status"] == "finished"
    assert "Poll 2 of 1000 failed: the connection voucherify_default cannot be opened" in capsys.readouterr().out


def test_one_that_cannot_connect_can_be_cancelled(voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled_meanwhile() -> bool:
        set_connection(monkeypatch, "{not JSON")
        waiting = asyncio.create_task(fired(trigger(["aa_1"], max_consecutive_failures=1_000)))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled()

    assert asyncio.run(cancelled_meanwhile())


def test_its_repr_and_arguments_hold_no_secret(voucherify: LocalVoucherify) -> None:
    shown = repr(trigger(["aa_1"])) + json.dumps(trigger(["aa_1"]).serialize())

    assert "secret-f7e4" not in shown
    assert "app-0c55" not in shown
