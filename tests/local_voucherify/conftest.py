"""What the stories about the local Voucherify share: a server, a caller with credentials, and a clock to turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.endpoints import METADATA_ENDPOINTS, UPDATE_ENDPOINTS

APP_ID, SECRET_KEY = "shop-app-id", "shop-secret-key"


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def turn(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass(frozen=True)
class Shop:
    """A local Voucherify and a caller that has the project's key."""

    server: LocalVoucherify
    http: httpx.Client

    def submit(self, resource: str, records: Any) -> str:
        """Send records to a bulk endpoint and return the id of the action."""
        return self._scheduled(self.http.post(UPDATE_ENDPOINTS[resource].path, json=records))

    def submit_metadata(self, resource: str, ids: list[Any], metadata: dict[str, Any]) -> str:
        """Send one metadata object for many ids and return the id of the action."""
        endpoint = METADATA_ENDPOINTS[resource]
        assert endpoint.ids_field is not None
        return self._scheduled(self.http.post(endpoint.path, json={endpoint.ids_field: ids, "metadata": metadata}))

    def poll(self, action_id: str) -> dict[str, Any]:
        """Return the action as the API shows it."""
        answer = self.http.get(f"/v1/async-actions/{action_id}")
        assert answer.status_code == 200, answer.text
        action: dict[str, Any] = answer.json()
        return action

    def update(self, resource: str, records: Any) -> dict[str, Any]:
        """Send records and return the finished action."""
        return self.poll(self.submit(resource, records))

    @staticmethod
    def _scheduled(answer: httpx.Response) -> str:
        assert answer.status_code == 202, answer.text
        action_id: str = answer.json()["async_action_id"]
        return action_id


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_shop() -> Iterator[Callable[..., Shop]]:
    """Give a function that starts a local Voucherify with options; all are stopped after the test."""
    with ExitStack() as cleanup:

        def start(**options: Any) -> Shop:
            server = cleanup.enter_context(LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, **options))
            key = {"X-App-Id": APP_ID, "X-App-Token": SECRET_KEY}
            http = cleanup.enter_context(httpx.Client(base_url=server.base_url, headers=key, timeout=10))
            return Shop(server, http)

        yield start


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    """A local Voucherify with the default options."""
    return open_shop()
