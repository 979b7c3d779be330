"""The models and requests, held against the vendor's own API description (skipped where it is not beside us)."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import jsonschema
import pytest
from openapi import (
    answer_schema,
    assert_valid_request,
    examples_of_answers,
    examples_of_requests,
    needs_openapi,
    openapi_available,
)

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.models.async_action import AsyncAction, BulkResult
from airflow_provider_voucherify.models.endpoints import (
    ASYNC_ACTIONS_PATH,
    METADATA_ENDPOINTS,
    OAUTH_TOKEN_PATH,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.sync.outcomes import ENDPOINTS_BY_ACTION_TYPE
from airflow_provider_voucherify.sync.settlement import settle

pytestmark = needs_openapi

ENDPOINTS = [*UPDATE_ENDPOINTS.values(), *METADATA_ENDPOINTS.values()]
EMPTY = Body.of(b"[]")


def documented_actions(of: Collection[str] | None = None) -> list[Any]:
    """Return the documented actions, of some types or all."""
    path = f"{ASYNC_ACTIONS_PATH}/{{asyncActionId}}"
    examples = examples_of_answers("GET", path, 200) if openapi_available() else {}
    return [pytest.param(action, id=name) for name, action in examples.items() if of is None or action["type"] in of]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.action_type)
def test_documented_answers_of_bulk_calls_give_an_id(endpoint: BulkEndpoint) -> None:
    examples = examples_of_answers("POST", endpoint.path, 202) or {"schema": {"async_action_id": "aa_1"}}

    for answer in examples.values():
        answer_schema("POST", endpoint.path, 202).validate(answer)
        assert calls.bulk(endpoint, EMPTY).parse(answer) == answer["async_action_id"]


@pytest.mark.parametrize("answer", documented_actions())
def test_every_documented_action_is_read(answer: dict[str, Any]) -> None:
    action = calls.get_async_action("aa_1").parse(answer)

    assert action.model_dump(exclude_unset=True).items() <= answer.items()
    assert action.is_finished
    BulkResult.model_validate(action.result)


@pytest.mark.parametrize("answer", documented_actions(of=ENDPOINTS_BY_ACTION_TYPE))
def test_documented_results_of_our_endpoints_are_settled_completely(answer: dict[str, Any]) -> None:
    action = AsyncAction.model_validate(answer)
    endpoint = ENDPOINTS_BY_ACTION_TYPE[action.type or ""]

    outcome = settle(action, answer["result"]["done_count"], upserts=endpoint.upserts)

    assert (outcome.succeeded, outcome.failed, outcome.not_reported) == (answer["result"]["done_count"], 0, 0)


@pytest.mark.parametrize(
    ("call", "path"),
    [(calls.list_async_actions(), ASYNC_ACTIONS_PATH), (calls.oauth_token("api"), OAUTH_TOKEN_PATH)],
    ids=str,
)
def test_other_documented_answers_are_read(call: Call[Any], path: str) -> None:
    examples = examples_of_answers(call.method, path, 200)

    assert examples
    for answer in examples.values():
        assert call.parse(answer)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.action_type)
def test_the_endpoint_table_says_what_the_description_says(endpoint: BulkEndpoint) -> None:
    """A record of every field of the table fits; one without a required field does not."""
    values = {"string": "x", "integer": 1, "date": "2024-02-29", "string_list": ["x"], "object": {}}
    record = {name: values[field.type] for name, field in endpoint.fields.items()}

    def body(record: dict[str, Any]) -> bytes:
        if endpoint.ids_field is None:
            return json.dumps([record]).encode()
        members = {endpoint.ids_field: [record[endpoint.key]] if endpoint.key in record else None}
        return json.dumps(members | {name: record[name] for name in record if name != endpoint.key}).encode()

    assert_valid_request("POST", endpoint.path, body(record))
    for name in endpoint.required:
        with pytest.raises(jsonschema.ValidationError):
            assert_valid_request("POST", endpoint.path, body({n: v for n, v in record.items() if n != name}))
    for name, field in endpoint.fields.items():
        if field.nullable:
            assert_valid_request("POST", endpoint.path, body({**record, name: None}))
        else:
            with pytest.raises(jsonschema.ValidationError):
                assert_valid_request("POST", endpoint.path, body({**record, name: None}))


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.action_type)
def test_documented_requests_pass_the_judge(endpoint: BulkEndpoint) -> None:
    examples = examples_of_requests("POST", endpoint.path)

    assert examples
    for body in examples.values():
        assert_valid_request("POST", endpoint.path, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "said"),
    [
        ("POST", "/v1/customers/bulk", b"[]", "", "has no POST /v1/customers/bulk"),
        ("POST", "/v1/customers/bulk/async", b"{}", "", "is not of type 'array'"),
        ("POST", "/v1/customers/bulk/async", b'[{"source_id":"a","nmae":"x"}]', "", "'nmae'} is not documented"),
        ("POST", "/v1/customers/bulk/async", b'[{"source_id":"a"},{"name":"x"}]', "", "'source_id' is a required"),
        ("POST", "/v1/customers/bulk/async", b'[{"source_id":"a","birthdate":"1.2.2024"}]', "", "is not a 'date'"),
        ("POST", "/v1/products/bulk/async", b'[{"source_id":"a","price":1.5}]', "", "is not of type 'integer'"),
        ("POST", "/v1/products/bulk/async", b'[{"source_id":"a","metadata":{"a":NaN}}]', "", "NaN is no JSON"),
        ("POST", "/v1/vouchers/metadata/async", b'{"codes":[1],"metadata":{}}', "", "is not of type 'string'"),
        ("POST", "/v1/oauth/token", b"grant_type=password&scope=api", "", "'password' is not one of"),
        ("GET", "/v1/async-actions", b"x", "", "has no body here"),
        ("GET", "/v1/async-actions", b"", "limit=1000", "greater than the maximum"),
        ("GET", "/v1/async-actions", b"", "page=2", "page is not documented"),
    ],
)
def test_the_judge_is_no_rubber_stamp(method: str, path: str, body: bytes, query: str, said: str) -> None:
    with pytest.raises((AssertionError, jsonschema.ValidationError), match=said):
        assert_valid_request(method, path, body, query=query)
