"""The models and requests, held against the vendor's own API description (skipped where it is not beside us)."""

from __future__ import annotations

import json
import re
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

from airflow_provider_voucherify.client import calls, customers, oauth, products, vouchers
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.models.async_action import AsyncAction, BulkResult
from airflow_provider_voucherify.models.endpoints import (
    ASYNC_ACTIONS_PATH,
    METADATA_ENDPOINTS,
    METADATA_SCHEMAS_PATH,
    OAUTH_TOKEN_PATH,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.sync.settlement import settle
from airflow_provider_voucherify.sync.submitted import ENDPOINTS_BY_ACTION_TYPE

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

    assert action.model_dump(exclude={"result_json"}, exclude_unset=True).items() <= answer.items()
    assert action.result == answer["result"]
    assert action.is_finished
    BulkResult.of(action)


@pytest.mark.parametrize("answer", documented_actions(of=ENDPOINTS_BY_ACTION_TYPE))
def test_documented_results_of_our_endpoints_are_settled_completely(answer: dict[str, Any]) -> None:
    action = AsyncAction.model_validate(answer)
    endpoint = ENDPOINTS_BY_ACTION_TYPE[action.type or ""]

    outcome = settle(action, answer["result"]["done_count"], upserts=endpoint.upserts)

    assert (outcome.succeeded, outcome.failed, outcome.not_reported) == (answer["result"]["done_count"], 0, 0)


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (calls.list_async_actions(), ASYNC_ACTIONS_PATH),
        (calls.oauth_token("api"), OAUTH_TOKEN_PATH),
        (calls.get_metadata_schema("customers"), f"{METADATA_SCHEMAS_PATH}/{{resource}}"),
        (calls.list_metadata_schemas(), METADATA_SCHEMAS_PATH),
    ],
    ids=str,
)
def test_other_documented_answers_are_read(call: Call[Any], path: str) -> None:
    examples = examples_of_answers(call.method, path, 200)

    assert examples
    for answer in examples.values():
        assert call.parse(answer)


def test_nothing_of_a_documented_metadata_schema_is_lost() -> None:
    examples = examples_of_answers("GET", f"{METADATA_SCHEMAS_PATH}/{{resource}}", 200)

    assert examples
    for answer in examples.values():
        schema = calls.get_metadata_schema("customers").parse(answer)
        assert schema.related_object == answer["related_object"]
        assert schema.allow_defined_only is answer["allow_defined_only"]
        read = {key: definition.model_dump(exclude_unset=True) for key, definition in schema.properties.items()}
        assert read == {
            key: {re.sub("[A-Z]", lambda c: "_" + c[0].lower(), name): value for name, value in definition.items()}
            for key, definition in answer["properties"].items()
        }


RECORD_CALLS = [
    (customers.create_customer({}), "/v1/customers"),
    (customers.get_customer("c"), "/v1/customers/{customerId}"),
    (customers.update_customer("c", {}), "/v1/customers/{customerId}"),
    (customers.delete_customer_permanently("c"), "/v1/customers/{customerId}/permanent-deletion"),
    (customers.list_customers(), "/v1/customers"),
    (customers.list_customer_segments("c"), "/v1/customers/{customerId}/segments"),
    (customers.list_customer_redeemables("c"), "/v1/customers/{customerId}/redeemables"),
    (products.create_product({}), "/v1/products"),
    (products.get_product("p"), "/v1/products/{productId}"),
    (products.update_product("p", {}), "/v1/products/{productId}"),
    (products.list_products(), "/v1/products"),
    (vouchers.create_voucher("v", {}), "/v1/vouchers/{code}"),
    (vouchers.get_voucher("v"), "/v1/vouchers/{code}"),
    (vouchers.update_voucher("v", {}), "/v1/vouchers/{code}"),
    (vouchers.list_vouchers(), "/v1/vouchers"),
    (oauth.introspect_oauth_token("t"), "/v1/oauth/introspect"),
]


@pytest.mark.parametrize(("call", "path"), RECORD_CALLS, ids=[f"{c.method} {path}" for c, path in RECORD_CALLS])
def test_documented_records_are_read_without_making_anything_up(call: Call[Any], path: str) -> None:
    examples = examples_of_answers(call.method, path, 200)

    assert examples
    for answer in examples.values():
        _assert_part(call.parse(answer).to_dict(), answer)


def _assert_part(told: Any, answer: Any) -> None:
    """Every member that was read is in the answer, with the same value."""
    if isinstance(told, dict):
        assert told.keys() <= answer.keys()
        for name, value in told.items():
            _assert_part(value, answer[name])
    elif isinstance(told, list):
        assert len(told) == len(answer)
        for mine, theirs in zip(told, answer, strict=True):
            _assert_part(mine, theirs)
    else:
        assert told == answer


@pytest.mark.parametrize(("call", "path"), RECORD_CALLS, ids=[f"{c.method} {path}" for c, path in RECORD_CALLS])
def test_the_documented_fields_are_known(call: Call[Any], path: str) -> None:
    """What is not read of an example is what its schema does not have either, or is of no use (``object``)."""
    left_out = {"object", "data_ref", "access_token"}
    for answer in examples_of_answers(call.method, path, 200).values():
        assert answer.keys() - call.parse(answer).to_dict().keys() <= left_out


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/customers"),
        ("PUT", "/v1/customers/{customerId}"),
        ("POST", "/v1/products"),
        ("PUT", "/v1/products/{productId}"),
    ],
)
def test_documented_bodies_of_records_pass_the_judge(method: str, path: str) -> None:
    for body in examples_of_requests(method, path).values():
        assert_valid_request(method, path, json.dumps(body).encode())


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
