"""What the stories about the local Voucherify share: a server, a caller with credentials, and a clock to turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.endpoints import METADATA_ENDPOINTS, UPDATE_ENDPOINTS

APP_ID, SECRET_KEY = "shop-app-id", "shop-secret-key"
OPENAPI = Path(__file__).resolve().parents[3] / "shared" / "voucherify" / "openapi"


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


@pytest.fixture(scope="session")
def fits_vendor_schema() -> Callable[[str, str, Any], None]:
    """
    Give a function that checks JSON against a part of the vendor's API description.

    It takes the tag of the description, a JSON pointer into it and the JSON. A voucher's ``updated_at`` may be null as
    in the description's own examples, whatever its schema says.
    """
    if not OPENAPI.is_dir():
        pytest.skip(f"the vendor's API description is not at {OPENAPI}")

    def check(tag: str, pointer: str, instance: Any) -> None:
        description = _as_json_schema(json.loads((OPENAPI / f"docs-{tag}.json").read_text(encoding="utf-8")))
        jsonschema.Draft202012Validator({**description, "$ref": f"#{pointer}"}).validate(
            _without_null_updates(instance)
        )

    return check


def _without_null_updates(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_null_updates(item) for item in node]
    if not isinstance(node, dict):
        return node
    is_voucher = node.get("object") == "voucher" and node.get("updated_at", "") is None
    return {
        name: _without_null_updates(value) for name, value in node.items() if not is_voucher or name != "updated_at"
    }


def _as_json_schema(node: Any) -> Any:
    """
    Return an OpenAPI 3.0 document with ``nullable`` in the words of JSON Schema.

    ``oneOf`` becomes ``anyOf``: the vendor's alternatives are not exclusive (data of events).
    """
    if isinstance(node, list):
        return [_as_json_schema(element) for element in node]
    if not isinstance(node, dict):
        return node
    converted = {
        "anyOf" if name == "oneOf" else name: _as_json_schema(value)
        for name, value in node.items()
        if name != "nullable"
    }
    return {"anyOf": [{"type": "null"}, converted]} if node.get("nullable") is True else converted
