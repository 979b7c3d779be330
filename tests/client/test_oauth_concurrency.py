"""Many callers at once share one token, and one renewal of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.client.http import AsyncVoucherifyClient, VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import Delay, LocalVoucherify
from airflow_provider_voucherify.models.errors import VoucherifyBadRequestError

CALLERS = 8
SettingsFor = Callable[..., ConnectionSettings]


def call_from_threads(settings: ConnectionSettings) -> None:
    """Every thread has a client of its own, as two tasks of one process have."""

    def call(_: int) -> None:
        with VoucherifyClient(settings) as client:
            client.list_async_actions()

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(call, range(CALLERS)))


def call_from_tasks(settings: ConnectionSettings) -> None:
    """All tasks share one client, as the triggers of one triggerer do."""

    async def call() -> None:
        async with AsyncVoucherifyClient(settings) as client, asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(client.send(calls.list_async_actions()))

    asyncio.run(call())


@pytest.mark.parametrize("call_at_once", [call_from_threads, call_from_tasks])
def test_one_token_and_one_renewal_for_all(
    server: LocalVoucherify, settings_for: SettingsFor, call_at_once: Callable[[ConnectionSettings], None]
) -> None:
    settings = settings_for(server, auth_method="oauth")
    server.misbehave("token", Delay(0.1), times=None)

    call_at_once(settings)
    assert len(server.requests("POST", "/v1/oauth/token")) == 1

    server.expire_tokens()
    call_at_once(settings)
    assert len(server.requests("POST", "/v1/oauth/token")) == 2
    answers = [request.status for request in server.requests("GET", "/v1/async-actions")]
    assert answers.count(200) == 2 * CALLERS


def test_threads_and_tasks_use_the_same_token(server: LocalVoucherify, settings_for: SettingsFor) -> None:
    settings = settings_for(server, auth_method="oauth")
    call_from_threads(settings)
    call_from_tasks(settings)

    assert len(server.requests("POST", "/v1/oauth/token")) == 1


def test_those_who_wait_for_a_token_get_on_when_it_cannot_be_had(
    server: LocalVoucherify, settings_for: SettingsFor
) -> None:
    settings = settings_for(server, auth_method="oauth", scope="everything")

    async def call() -> list[Any]:
        async with AsyncVoucherifyClient(settings) as client:
            return await asyncio.gather(
                *(client.send(calls.list_async_actions()) for _ in range(CALLERS)), return_exceptions=True
            )

    outcomes = asyncio.run(call())
    assert [type(outcome) for outcome in outcomes] == [VoucherifyBadRequestError] * CALLERS
    with pytest.raises(VoucherifyBadRequestError, match="invalid_scope"):
        call_from_threads(settings)
