"""Waiting before a rate limit is hit: across threads, event loops and clients, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.client.budgets import Budgets, MustWait
from airflow_provider_voucherify.client.http import AsyncVoucherifyClient, VoucherifyClient
from airflow_provider_voucherify.client.rate_limits import Bucket, CallLimit, RateLimit
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import Delay, LocalVoucherify, RateLimited
from airflow_provider_voucherify.models.errors import VoucherifyRateLimitError

Connect = Callable[..., Any]
Start = Callable[..., LocalVoucherify]
SettingsFor = Callable[..., ConnectionSettings]
IMPATIENT = RetryPolicy(max_rate_limit_wait=60)


def statuses(server: LocalVoucherify) -> list[int | None]:
    return [request.status for request in server.received]


def call_from_threads(settings: ConnectionSettings, number: int, what: Callable[[Any, int], Any]) -> None:
    """Four threads, each with a client of its own, as tasks of one process have."""
    clients = [VoucherifyClient(settings) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: what(clients[n % 4], n), range(number)))
    for client in clients:
        client.close()


def call_from_tasks(settings: ConnectionSettings, number: int, what: Callable[[Any, int], Any]) -> None:
    """All tasks share one client, as the triggers of one triggerer do."""

    async def call() -> None:
        async with AsyncVoucherifyClient(settings) as client:
            await asyncio.gather(*(what(client, n) for n in range(number)))

    asyncio.run(call())


@pytest.mark.parametrize("retry_header", ["next_call", "period_end"])
@pytest.mark.parametrize("call_at_once", [call_from_threads, call_from_tasks])
def test_callers_share_what_is_left_and_then_wait(
    start: Start, settings_for: SettingsFor, call_at_once: Callable[..., None], retry_header: str
) -> None:
    server = start(api_calls=(7, 0.5), retry_header=retry_header)

    call_at_once(settings_for(server), 20, lambda client, _: client.send(calls.list_async_actions()))

    assert statuses(server) == [200] * 20


@pytest.mark.parametrize(
    "counting",
    [
        {"bulk_api_calls": (2, 0.5), "bulk_calls_are_api_calls": False},
        {"bulk_api_calls": (2, 0.5)},
        {},
    ],
    ids=["bulk calls count as such", "bulk calls count as both", "bulk calls are ordinary calls"],
)
@pytest.mark.parametrize("call_at_once", [call_from_threads, call_from_tasks])
def test_whatever_bulk_calls_count_as_nobody_runs_into_a_limit(
    start: Start, settings_for: SettingsFor, call_at_once: Callable[..., None], counting: dict[str, Any]
) -> None:
    server = start(api_calls=(4, 0.5), **counting)
    settings = settings_for(server)
    with VoucherifyClient(settings) as first:  # what bulk calls count as is only known when both kinds were answered
        first.bulk_update("customers", [])
        first.list_async_actions()

    call_at_once(
        settings,
        6,
        lambda client, n: client.send(calls.list_async_actions() if n % 2 else calls.bulk_update("customers", [])),
    )

    assert sorted(statuses(server)) == [200] * 4 + [202] * 4


def test_a_used_up_limit_of_bulk_calls_holds_no_other_call_back(start: Start, connect_to: Connect) -> None:
    server = start(api_calls=(100, 60), bulk_api_calls=(1, 3_600))
    client = connect_to(server, retry=IMPATIENT)
    client.bulk_update("customers", [])

    client.list_async_actions()

    with pytest.raises(VoucherifyRateLimitError, match=r"Voucherify's bulk_api_calls limit of 1 is used up"):
        client.bulk_update("products", [])
    assert statuses(server) == [202, 200]


def test_a_wait_that_is_too_long_is_an_error_and_nothing_is_sent(start: Start, connect_to: Connect) -> None:
    server = start(api_calls=(1, 600))
    client = connect_to(server, retry=IMPATIENT)
    client.list_async_actions()
    ends = time.time() + 600

    said = (
        r"POST .*/v1/customers/bulk/async was not sent: Voucherify's api_calls limit of 1 is used up until ..:..:.. UTC"
    )
    with pytest.raises(VoucherifyRateLimitError, match=said) as raised:
        client.bulk_update("customers", [])

    assert (raised.value.sent, raised.value.limit_type, raised.value.status) == (False, "api_calls", 429)
    assert raised.value.retry_at == pytest.approx(ends, abs=3)
    assert statuses(server) == [200]


@pytest.mark.parametrize("limits", [{"api_calls": (1, 600)}, {}], ids=["known", "met"])
def test_one_call_may_be_told_to_wait_less(start: Start, connect_to: Connect, limits: dict[str, Any]) -> None:
    server = start(**limits)
    client = connect_to(server)
    client.list_async_actions()
    server.misbehave("list", RateLimited(retry_after=30))

    with pytest.raises(VoucherifyRateLimitError) as raised:
        client.send(calls.list_async_actions(), max_rate_limit_wait=5)

    assert raised.value.retry_at is not None
    assert 20 < raised.value.retry_at - time.time() < 700
    assert raised.value.sent is not bool(limits)


def test_a_call_may_wait_a_period_for_itself_and_not_for_those_before_it(
    start: Start, settings_for: SettingsFor
) -> None:
    server = start(bulk_api_calls=(1, 1))
    patience = RetryPolicy(max_rate_limit_wait=2.2)

    with VoucherifyClient(settings_for(server), retry=patience) as client, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: client.bulk_update("customers", []), range(4)))

    assert statuses(server).count(202) == 4


def test_the_log_says_why_and_until_when(start: Start, connect_sync: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "airflow_provider_voucherify")
    server = start(api_calls=(1, 0.5))
    client = connect_sync(server)
    client.list_async_actions()

    client.get_async_action(client.bulk_update("customers", []))

    lines = [
        re.sub(r"\d\d:\d\d:\d\d", "hh:mm:ss", record.message) for record in caplog.records if "UTC" in record.message
    ]
    why = "Voucherify's api_calls limit of 1 is used up"
    assert [re.sub(r"\d s,", "n s,", line).replace(server_id(server), "aa_1") for line in lines] == [
        f"POST /v1/customers/bulk/async waits n s, until hh:mm:ss UTC: {why}",
        f"GET /v1/async-actions/aa_1 waits n s, until hh:mm:ss UTC: {why}",
    ]
    told = next(record for record in caplog.records if "UTC" in record.message)
    until = re.search(r"\d\d:\d\d:\d\d", told.message)
    assert until is not None
    assert until[0] in {time.strftime("%H:%M:%S", time.gmtime(told.created + s)) for s in (0, 1, 2)}


def server_id(server: LocalVoucherify) -> str:
    return next(iter(server.actions))


def test_the_connections_own_limits_pace_before_anything_was_told(
    server: LocalVoucherify, settings_for: SettingsFor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "airflow_provider_voucherify")
    settings = settings_for(server, rate_limit="4/second", bulk_rate_limit="1/second")
    started = time.monotonic()

    call_from_threads(settings, 6, lambda client, _: client.list_async_actions())
    with VoucherifyClient(settings) as client:
        client.bulk_update("customers", [])
        client.bulk_update("customers", [])

    assert time.monotonic() - started >= 2
    assert "UTC: the connection's limit of 4/second api_calls is used up" in caplog.text
    assert "UTC: the connection's limit of 1/second bulk_api_calls is used up" in caplog.text


def test_the_tighter_of_both_limits_counts(start: Start, connect_to: Connect) -> None:
    roomy = {"rate_limit": "100/minute", "bulk_rate_limit": "100/hour"}
    client = connect_to(start(api_calls=(1, 600)), retry=IMPATIENT, **roomy)
    client.list_async_actions()
    with pytest.raises(VoucherifyRateLimitError, match="Voucherify's api_calls limit of 1"):
        client.list_async_actions()

    client = connect_to(start(api_calls=(100, 600)), retry=IMPATIENT, rate_limit="1/hour")
    client.list_async_actions()
    with pytest.raises(VoucherifyRateLimitError, match="the connection's limit of 1/hour"):
        client.list_async_actions()


def test_a_project_is_one_budget_and_another_project_is_another(
    start: Start, connect_to: Connect, settings_for: SettingsFor
) -> None:
    server, other = start(api_calls=(1, 600)), start(api_calls=(1, 600))
    connect_to(server, retry=IMPATIENT).list_async_actions()

    connect_to(other, retry=IMPATIENT).list_async_actions()
    with pytest.raises(VoucherifyRateLimitError), VoucherifyClient(settings_for(server), retry=IMPATIENT) as same:
        same.list_async_actions()
    assert (len(server.received), len(other.received)) == (1, 1)


@pytest.mark.parametrize("ahead", [86_400, -86_400])
def test_a_wrong_clock_neither_hastens_nor_hangs(start: Start, connect_sync: Connect, ahead: float) -> None:
    server = start(api_calls=(2, 0.5), clock=lambda: time.time() + ahead)
    client = connect_sync(server)

    for _ in range(3):
        client.list_async_actions()

    assert statuses(server) == [200] * 3


@pytest.mark.parametrize("retry_epoch", [1.0, 1_990_000_000.0])
def test_a_time_that_cannot_be_is_not_waited_for(start: Start, connect_to: Connect, retry_epoch: float) -> None:
    server = start()
    client = connect_to(server)
    server.misbehave("list", RateLimited(0.01, retry_epoch=retry_epoch))
    with pytest.raises(VoucherifyRateLimitError):
        client.send(calls.list_async_actions(), max_rate_limit_wait=0)

    client.get_async_action(client.bulk_update("customers", []))

    assert statuses(server) == [429, 202, 200]


def test_a_call_that_was_cancelled_keeps_nobody_waiting(start: Start, settings_for: SettingsFor) -> None:
    server = start(api_calls=(2, 600))
    server.misbehave("list", Delay(60), after=1)

    async def call() -> None:
        async with AsyncVoucherifyClient(settings_for(server)) as client:
            await client.send(calls.list_async_actions())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.send(calls.list_async_actions()), 0.2)
            await asyncio.wait_for(client.send(calls.list_async_actions()), 5)

    asyncio.run(call())


NO_LIMITS: dict[Bucket, CallLimit | None] = {"api_calls": None, "bulk_api_calls": None}


def send(project: Budgets, now: float = 0.0, *, patient: bool = True) -> int | MustWait:
    return project.send("api_calls", NO_LIMITS, now, patient=patient)


def end(project: Budgets, number: int | MustWait, status: int, remaining: int | None = None) -> None:
    assert isinstance(number, int)
    headers = RateLimit(remaining=remaining)
    project.ended(number, "api_calls", NO_LIMITS, 0.0, status=status, headers=headers)


def test_a_success_without_headers_ends_what_was_known_of_a_used_up_limit() -> None:
    project = Budgets()
    end(project, send(project), 429)
    probe = send(project)
    assert isinstance(send(project), MustWait), "one at a time, as long as nobody knows"
    end(project, probe, 503)
    probe = send(project)
    assert isinstance(send(project), MustWait)
    end(project, probe, 200)

    assert isinstance(send(project), int)
    assert isinstance(send(project), int)


def test_the_answers_of_others_are_not_waited_for_for_ever() -> None:
    project = Budgets()
    end(project, send(project), 200, remaining=1)
    send(project)
    wait = send(project)

    assert isinstance(wait, MustWait)
    assert wait.until is None
    assert isinstance(send(project, patient=False), int), "by one that may not wait"
    assert isinstance(send(project, 500.0), int), "beyond the time in which a call is answered or has failed"


def test_a_forked_process_does_not_wait_for_calls_of_its_parent() -> None:
    script = """
import os, sys
from airflow_provider_voucherify.client.budgets import budgets_of
parents = budgets_of("url", "app")
child = os.fork()
if child == 0:
    os._exit(budgets_of("url", "app") is parents)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or budgets_of("url", "app") is not parents)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
