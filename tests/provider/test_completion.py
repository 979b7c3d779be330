"""``Completion`` by itself: what it returns, without a task, a server or a database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList
from airflow_provider_voucherify.models.errors import VoucherifyCompletionTimeoutError, VoucherifyRateLimitError
from airflow_provider_voucherify.sync.results.finished import ResultsRateLimitedError, UnfinishedActionsError
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync
from airflow_provider_voucherify.task.completion import Completion, Deferral, Done

IDS = ["aa_1", "aa_2"]
SUMMARY = SyncSummary(
    resource="customers",
    rows_read=2,
    submitted=2,
    refused=0,
    superseded=0,
    async_action_ids=IDS,
    requests=2,
    bytes_sent=10,
)


class Client:
    """Answers each poll with the next status, the last one for ever."""

    def __init__(self, *statuses: str, calls_left: int | None = None) -> None:
        self.settings = SimpleNamespace(extra=SimpleNamespace(poll_interval=0.01))
        self.statuses = list(statuses) or ["DONE"]
        self.calls_left = lambda: calls_left
        self.waits: list[float] = []

    def send(self, call: Any, max_rate_limit_wait: float) -> AsyncAction | AsyncActionList:
        if call.path.endswith("/async-actions"):
            return self.list_async_actions()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return AsyncAction(id=call.path.rpartition("/")[2], type="CUSTOMERS.BULK_UPDATE", status=status)

    def list_async_actions(self, *_: Any) -> AsyncActionList:
        return AsyncActionList(async_actions=[], has_more=False)

    def waiting_at_most(self, seconds: Callable[[], float]) -> Client:
        self.waits.append(seconds())
        return self


def completion(client: Client, *errors: Exception, end_time: float = 3600.0, **kwargs: Any) -> Completion:
    """Return the completion of two actions whose results end with errors first."""
    left = list(errors)

    def settle(sync: SubmittedSync, client: Any, **_: Any) -> SyncSummary:
        if left:
            raise left.pop(0)
        return SUMMARY

    sync = SubmittedSync(tuple(SubmittedBatch(action_id, 1) for action_id in IDS), submitted_at=time.time())
    more = {"poll_interval": None, "deferrable": True, "conn_id": "voucherify", "log": logging.getLogger(__name__)}
    return Completion(sync, client, settle, end_time=time.time() + end_time, **{**more, **kwargs})  # type: ignore[arg-type]


def rate_limited(seconds: float, fetched: int) -> ResultsRateLimitedError:
    return ResultsRateLimitedError(VoucherifyRateLimitError("GET /", 429), time.time() + seconds, fetched)


@pytest.mark.parametrize("deferrable", [True, False])
def test_what_is_finished_soon_is_done_on_the_worker(deferrable: bool) -> None:
    step = completion(Client("IN_PROGRESS", "DONE"), deferrable=deferrable).wait()

    assert isinstance(step, Done)
    assert step.summary is SUMMARY


def test_what_is_not_is_deferred_with_everything_that_the_trigger_needs(
    defer_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")
    step = completion(Client("IN_PROGRESS"), staged="staged").wait()

    assert isinstance(step, Deferral)
    trigger = step.trigger()
    assert trigger.waiting_for == IDS
    assert trigger.state is not None
    assert (trigger.state["staged"], trigger.state["held"]) == ("staged", False)
    assert trigger.not_before > time.time() + 5, "the trigger is made when the task leaves, and fires later"


def test_what_is_not_deferrable_ends_in_time() -> None:
    with pytest.raises(VoucherifyCompletionTimeoutError, match="aa_2 was not finished in time; it continues at"):
        completion(Client("IN_PROGRESS"), deferrable=False, end_time=0.05).wait()


def test_an_action_found_unfinished_is_polled_again() -> None:
    step = completion(Client(), UnfinishedActionsError(IDS)).wait()

    assert isinstance(step, Done)


@pytest.mark.parametrize(
    ("seconds", "fetched", "calls_left", "leaves"),
    [(60, 0, None, True), (60, 1, None, False), (60, 1, 3, True), (60, 1, 2, False), (7200, 0, None, False)],
    ids=["nothing fetched", "something", "enough calls", "too few calls", "after the end"],
)
def test_a_rate_limit_is_waited_for_elsewhere_if_that_costs_little(
    seconds: float, fetched: int, calls_left: int | None, leaves: bool
) -> None:
    client = Client(calls_left=calls_left)
    step = completion(client, rate_limited(seconds, fetched)).wait()

    assert isinstance(step, Deferral if leaves else Done)
    assert client.waits[0] == Completion.rate_limit_seconds
    if isinstance(step, Deferral):
        assert step.trigger().waiting_for == []
        assert step.trigger().not_before >= step.not_before > time.time() + 50
    else:
        assert client.waits[1] > 3000, "on the worker it is waited for until the end"


def test_a_poll_leaves_what_is_not_known_to_the_next() -> None:
    polled = completion(Client("IN_PROGRESS", "DONE"), rate_limited(60, 0))

    assert [polled.poll(), polled.poll()] == [None, None]
    assert isinstance(polled.poll(), Done)
