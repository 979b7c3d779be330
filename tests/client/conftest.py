"""What the stories about the client share: servers with credentials of their own, and both clients behind one face."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from openapi import assert_valid_requests

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.client.http import AsyncVoucherifyClient, VoucherifyClient
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify

FAST = RetryPolicy(backoff=0.01, max_backoff=0.02)


@pytest.fixture
def start() -> Iterator[Callable[..., LocalVoucherify]]:
    """
    Give a function that starts a local Voucherify with options.

    Each has a secret key of its own, since tokens are cached per process and connection. What a server has received is
    held against the contract at the end of the test.
    """
    with ExitStack() as cleanup:
        servers: list[LocalVoucherify] = []

        def start_one(**options: Any) -> LocalVoucherify:
            options = {"app_id": "shop-app-id", "secret_key": f"sk-{uuid.uuid4()}", "keep_bodies": True} | options
            servers.append(cleanup.enter_context(LocalVoucherify(**options)))
            return servers[-1]

        yield start_one
        for server in servers:
            assert_valid_requests(server.received)


@pytest.fixture
def server(start: Callable[..., LocalVoucherify]) -> LocalVoucherify:
    """A local Voucherify with the default options."""
    return start()


@pytest.fixture
def unjudged() -> Iterator[LocalVoucherify]:
    """A local Voucherify whose requests are not held against the contract, since they are wrong on purpose."""
    with LocalVoucherify(app_id="shop-app-id", secret_key=f"sk-{uuid.uuid4()}", keep_bodies=True) as server:
        yield server


@pytest.fixture(scope="session")
def settings_for() -> Callable[..., ConnectionSettings]:
    """Give a function that makes the settings of a connection to a server."""

    def make(server: LocalVoucherify, **extra: Any) -> ConnectionSettings:
        return ConnectionSettings.build(
            application_id=server.options.app_id,
            secret_key=server.options.secret_key,
            host=server.base_url,
            extra=extra,
        )

    return make


class AsyncFace:
    """The asynchronous client with the methods of the other one, which wait for its coroutines."""

    def __init__(self, client: AsyncVoucherifyClient, runner: asyncio.Runner) -> None:
        self.client = client
        self._runner = runner

    def iterate(self, listing: Any) -> list[Any]:
        """Return all records of a listing."""

        async def collect() -> list[Any]:
            return [record async for record in self.client.iterate(listing)]

        return self._runner.run(collect())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if (call := getattr(calls, name, None)) is not None:
            return lambda *args, **kwargs: self._runner.run(self.client.send(call(*args, **kwargs)))
        coroutine_of = getattr(self.client, name)
        return lambda *args, **kwargs: self._runner.run(coroutine_of(*args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def connect_to(
    request: pytest.FixtureRequest, settings_for: Callable[..., ConnectionSettings]
) -> Iterator[Callable[..., Any]]:
    """Give a function that opens a client of a server (or of settings); the test runs once with each kind."""
    with ExitStack() as cleanup:

        def connect(to: Any, retry: RetryPolicy = FAST, **extra: Any) -> Any:
            settings = to if isinstance(to, ConnectionSettings) else settings_for(to, **extra)
            if request.param == "sync":
                return cleanup.enter_context(VoucherifyClient(settings, retry=retry))
            runner = cleanup.enter_context(asyncio.Runner())
            client = AsyncVoucherifyClient(settings, retry=retry)
            cleanup.callback(lambda: runner.run(client.aclose()))
            return AsyncFace(client, runner)

        yield connect


@pytest.fixture
def connect_sync(settings_for: Callable[..., ConnectionSettings]) -> Iterator[Callable[..., VoucherifyClient]]:
    """Give a function that opens a synchronous client of a server (or of settings)."""
    with ExitStack() as cleanup:

        def connect(to: Any, retry: RetryPolicy = FAST, **extra: Any) -> VoucherifyClient:
            settings = to if isinstance(to, ConnectionSettings) else settings_for(to, **extra)
            return cleanup.enter_context(VoucherifyClient(settings, retry=retry))

        yield connect


@pytest.fixture
def foreign_host() -> Iterator[LocalVoucherify]:
    """A server that is none of the connection's business, and that records who came with what."""
    with LocalVoucherify(app_id="foreign", secret_key="foreign") as server:
        yield server
