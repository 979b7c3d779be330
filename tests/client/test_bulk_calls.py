"""The six bulk calls and the two reads, through both clients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify.client.calls import Body
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.endpoints import METADATA_ENDPOINTS, RESOURCES, UPDATE_ENDPOINTS
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyNotFoundError

Connect = Callable[..., Any]


@pytest.mark.parametrize("resource", RESOURCES)
def test_records_are_queued_as_they_are(server: LocalVoucherify, connect_to: Connect, resource: str) -> None:
    endpoint = UPDATE_ENDPOINTS[resource]
    records = [{endpoint.key: "Zażółć/1", "metadata": {"a": [1, None]}}, {endpoint.key: "2", "metadata": {}}]

    action_id = connect_to(server).bulk_update(resource, records)

    action = server.actions[action_id]
    assert (action.endpoint.path, action.record_count) == (endpoint.path, 2)
    (request,) = server.requests("POST", endpoint.path)
    assert json.loads(request.body or b"") == records
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-length"] == str(request.body_bytes_length)


@pytest.mark.parametrize("resource", RESOURCES)
def test_one_metadata_is_queued_for_many_ids(server: LocalVoucherify, connect_to: Connect, resource: str) -> None:
    endpoint = METADATA_ENDPOINTS[resource]

    action_id = connect_to(server).bulk_metadata_update(resource, ["a", "b"], {"vip": True})

    action = server.actions[action_id]
    assert (action.endpoint.path, action.record_count) == (endpoint.path, 2)
    (request,) = server.requests("POST", endpoint.path)
    assert json.loads(request.body or b"") == {endpoint.ids_field: ["a", "b"], "metadata": {"vip": True}}


def test_an_encoded_body_is_streamed_with_its_length(server: LocalVoucherify, connect_to: Connect) -> None:
    chunks: list[bytes | memoryview] = [b'[{"source_id":"a"},', memoryview(b'{"source_id":"b"}'), b"]"]
    body = Body(sum(map(len, chunks)), lambda: chunks)

    connect_to(server).bulk(UPDATE_ENDPOINTS["customers"], body)

    (request,) = server.requests("POST", "/v1/customers/bulk/async")
    assert request.body == b'[{"source_id":"a"},{"source_id":"b"}]'
    assert "transfer-encoding" not in request.headers


def test_an_action_is_read_back(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    action_id = client.bulk_update("customers", [{"source_id": "a"}])

    action = client.get_async_action(action_id)

    assert (action.id, action.type, action.is_finished) == (action_id, "CUSTOMERS.BULK_UPDATE", True)
    assert action.result["done_count"] == 1


def test_actions_are_listed_newest_first_without_results(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    ids = [client.bulk_update("customers", [{"source_id": name}]) for name in "abc"]

    page = client.list_async_actions(limit=2)
    nothing = client.list_async_actions(end_date="2020-01-01T00:00:00.000Z")

    assert [action.id for action in page.async_actions] == ids[:0:-1]
    assert page.has_more
    assert all(action.result is None for action in page.async_actions)
    assert (nothing.async_actions, nothing.has_more) == ([], False)


def test_an_id_is_one_segment_of_the_path_whatever_it_holds(server: LocalVoucherify, connect_to: Connect) -> None:
    with pytest.raises(VoucherifyNotFoundError, match=re.escape("Cannot find async_action with id a b?c#d%e")):
        connect_to(server).get_async_action("a b?c#d%e")


@pytest.mark.parametrize(
    ("call", "arguments", "said"),
    [
        ("bulk_update", ("orders", []), "unknown resource 'orders'.*customers, products, vouchers"),
        ("bulk_metadata_update", ("skus", ["a"], {}), "unknown resource 'skus'"),
        ("bulk_metadata_update", ("vouchers", "abc", {}), "not one string"),
        ("bulk_update", ("customers", [{"source_id": object()}]), "cannot be sent as JSON"),
        ("bulk_update", ("customers", [{"source_id": "\ud800"}]), "cannot be sent as JSON"),
    ],
)
def test_what_cannot_be_sent_is_said_before_sending(
    server: LocalVoucherify, connect_to: Connect, call: str, arguments: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        getattr(connect_to(server), call)(*arguments)
    assert server.received == []
