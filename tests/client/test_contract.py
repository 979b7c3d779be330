"""The models and requests, held against the contract, which is what the vendor's API description says."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from openapi import answers, assert_fits_answer, assert_valid_request

from airflow_provider_voucherify.client import auth, calls, customers, exports, products, vouchers
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.local_voucherify.contract import words
from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.bulk_result import BulkResult
from airflow_provider_voucherify.models.endpoints import (
    ASYNC_ACTIONS_PATH,
    METADATA_ENDPOINTS,
    METADATA_SCHEMAS_PATH,
    OAUTH_TOKEN_PATH,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.sync.results.settlement import settle
from airflow_provider_voucherify.sync.types.submitted import ENDPOINTS_BY_ACTION_TYPE

ENDPOINTS = [*UPDATE_ENDPOINTS.values(), *METADATA_ENDPOINTS.values()]
EMPTY = Body.of(b"[]")


GET_ACTION = f"{ASYNC_ACTIONS_PATH}/{{asyncActionId}}"
ACTION_TYPES = sorted(words("AsyncActionBase", "type"))


def result_of(action_type: str) -> dict[str, Any]:
    """
    Return the result of a finished action.

    The contract allows each form of a result for each type. Which type has which, and that metadata updates have counts
    and reports too, which their schema lacks, is told by the vendor's examples.
    """
    if action_type in ENDPOINTS_BY_ACTION_TYPE:
        reports = {"reports": ["https://download.example/1"], "reports_available_till": "2024-05-29T12:30:00.000Z"}
        return {"done_count": 3, "failed_count": 0, **reports, "errors": []}
    if "IMPORT" in action_type:
        failed = [
            {"row": 1, "source_id": "", "reason": "name is required"},
            {"row": 2, "source_id": "x", "reason": "no"},
        ]
        return {"message": "1 imported, 2 failed.", "failed": failed, "done_count": 1, "failed_count": 2}
    return {"message": "9 changed.", "done_count": 9}


def finished(action_type: str) -> dict[str, Any]:
    """Return a finished action that fits the contract."""
    words_of_success = {"type": action_type, "status": "DONE", "operation_status": "SUCCESS"}
    action: dict[str, Any] = answers("GET", GET_ACTION, 200)[0] | words_of_success | {"result": result_of(action_type)}
    assert_fits_answer("GET", GET_ACTION, 200, action)
    return action


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.action_type)
def test_answers_of_bulk_calls_give_an_id(endpoint: BulkEndpoint) -> None:
    for answer in answers("POST", endpoint.path, 202):
        assert calls.bulk(endpoint, EMPTY).parse(answer) == answer["async_action_id"]


@pytest.mark.parametrize("action_type", ACTION_TYPES)
def test_an_action_of_every_type_is_read(action_type: str) -> None:
    answer = finished(action_type)

    action = calls.get_async_action("aa_1").parse(answer)

    assert action.model_dump(exclude={"result_json"}, exclude_unset=True).items() <= answer.items()
    assert action.result == answer["result"]
    assert action.is_finished
    BulkResult.of(action)


def test_an_action_of_every_form_is_read() -> None:
    read = [calls.get_async_action("aa_1").parse(answer) for answer in answers("GET", GET_ACTION, 200)]

    assert [action.result for action in read] == [answer["result"] for answer in answers("GET", GET_ACTION, 200)]
    assert {action.status for action in read} == words("AsyncActionBase", "status")
    assert {action.status for action in read if action.is_finished} == {"DONE", "FAILED"}
    for action in read:
        result = BulkResult.of(action)
        list(result.errors), list(result.failed), list(result.reports)


@pytest.mark.parametrize("action_type", ENDPOINTS_BY_ACTION_TYPE)
def test_results_of_our_endpoints_are_settled_completely(action_type: str) -> None:
    action = AsyncAction.model_validate(finished(action_type))

    outcome = settle(action, 3, upserts=ENDPOINTS_BY_ACTION_TYPE[action_type].upserts)

    assert (outcome.succeeded, outcome.failed, outcome.not_reported) == (3, 0, 0)


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (calls.list_async_actions(), ASYNC_ACTIONS_PATH),
        (auth.oauth_token("api"), OAUTH_TOKEN_PATH),
        (calls.get_metadata_schema("customers"), f"{METADATA_SCHEMAS_PATH}/{{resource}}"),
        (calls.list_metadata_schemas(), METADATA_SCHEMAS_PATH),
    ],
    ids=str,
)
def test_other_answers_are_read(call: Call[Any], path: str) -> None:
    for answer in answers(call.method, path, 200):
        assert call.parse(answer)


def test_a_list_of_actions_need_not_say_whether_older_ones_follow() -> None:
    """The vendor's example does not."""
    answer = {name: value for name, value in answers("GET", ASYNC_ACTIONS_PATH, 200)[0].items() if name != "has_more"}

    assert_fits_answer("GET", ASYNC_ACTIONS_PATH, 200, answer)
    assert not calls.list_async_actions().parse(answer).is_last


def test_nothing_of_a_metadata_schema_is_lost() -> None:
    for answer in answers("GET", f"{METADATA_SCHEMAS_PATH}/{{resource}}", 200):
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
    (exports.create_export("customer"), "/v1/exports"),
    (exports.get_export("e"), "/v1/exports/{exportId}"),
    (exports.list_exports(), "/v1/exports"),
    (auth.introspect_oauth_token("t"), "/v1/oauth/introspect"),
]


@pytest.mark.parametrize(("call", "path"), RECORD_CALLS, ids=[f"{c.method} {path}" for c, path in RECORD_CALLS])
def test_records_are_read_without_making_anything_up(call: Call[Any], path: str) -> None:
    for answer in answers(call.method, path, 200):
        _assert_part(call.parse(answer).to_dict(), answer)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (customers.get_customer("c"), {"id": "cust_1", "source_id": None, "address": None, "object": "customer"}),
        (vouchers.get_voucher("v"), {"code": "v", "id": "v_1", "updated_at": None, "object": "voucher"}),
        (customers.list_customers(), {"customers": [{"id": "cust_1"}], "total": 1}),
        (auth.introspect_oauth_token("t"), {"active": False}),
    ],
    ids=["anonymous", "never updated", "a list that does not say whether it goes on", "unknown token"],
)
def test_what_the_vendor_answers_against_its_schemas_is_read_too(call: Call[Any], answer: dict[str, Any]) -> None:
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
def test_the_fields_of_the_contract_are_known(call: Call[Any], path: str) -> None:
    """What is not read of an answer is of no use, or is the token that was asked about."""
    left_out = {"object", "data_ref", "access_token"}
    for answer in answers(call.method, path, 200):
        assert answer.keys() - call.parse(answer).to_dict().keys() <= left_out


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/customers", {"source_id": "c", "name": "Ann", "address": {"city": "Oslo"}, "metadata": {"a": 1}}),
        ("POST", "/v1/customers", {"id": "cust_1", "address": None, "birthdate": "1990-01-02"}),
        ("PUT", "/v1/customers/{customerId}", {"email": "", "phone": "+47 1", "metadata": {"a": [None]}}),
        ("POST", "/v1/products", {"source_id": "p", "name": "Shirt", "price": 4500, "attributes": ["size"]}),
        ("PUT", "/v1/products/{productId}", {"image_url": "https://shop.example/p.png", "metadata": {}}),
        (
            "POST",
            "/v1/vouchers/{code}",
            {"type": "GIFT_VOUCHER", "gift": {"amount": 1, "balance": 1}, "validation_rules": ["r"]},
        ),
        ("PUT", "/v1/vouchers/{code}", {"metadata": {"a": 1}}),
        ("POST", "/v1/exports", {"exported_object": "sku", "parameters": {"fields": ["sku", "metadata.a"]}}),
        ("POST", "/v1/exports", {"exported_object": "voucher", "parameters": {"campaign_id": "c", "order": "-code"}}),
    ],
)
def test_bodies_of_records_pass_the_judge(method: str, path: str, body: dict[str, Any]) -> None:
    assert_valid_request(method, path, json.dumps(body).encode())


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.action_type)
def test_the_endpoint_table_says_what_the_contract_says(endpoint: BulkEndpoint) -> None:
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
def test_bulk_requests_pass_the_judge(endpoint: BulkEndpoint) -> None:
    """Whatever is in metadata, and however little of a record is given."""
    metadata = {"a": None, "b": [1, "x"], "c": {"d": 1.5}}
    smallest = {name: "x" if name == endpoint.key else {} for name in endpoint.required}
    records = [smallest, smallest | {"metadata": metadata}]
    body: Any = records if endpoint.ids_field is None else {endpoint.ids_field: ["a", ""], "metadata": metadata}

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
        ("POST", "/v1/products/bulk/async", b'[{"source_id":"a","metadata":{"a":NaN}}]', "", "NaN is not JSON"),
        ("POST", "/v1/vouchers/metadata/async", b'{"codes":[1],"metadata":{}}', "", "is not of type 'string'"),
        ("POST", "/v1/oauth/token", b"grant_type=password&scope=api", "", "'password' is not one of"),
        ("POST", "/v1/exports", b'{"exported_object":"api_log"}', "", "is not valid under any"),
        ("POST", "/v1/exports", b'{"exported_object":"order","parameters":{"fields":["phone"]}}', "", "not valid"),
        ("POST", "/v1/exports", b'{"exported_object":"order","parameters":{"order":"name"}}', "", "not valid"),
        ("GET", "/v1/exports", b"", "page=101", "greater than the maximum"),
        ("GET", "/v1/async-actions", b"x", "", "has no body here"),
        ("GET", "/v1/async-actions", b"", "limit=1000", "greater than the maximum"),
        ("GET", "/v1/async-actions", b"", "page=2", "page is not documented"),
    ],
)
def test_the_judge_is_no_rubber_stamp(method: str, path: str, body: bytes, query: str, said: str) -> None:
    with pytest.raises((AssertionError, jsonschema.ValidationError), match=said):
        assert_valid_request(method, path, body, query=query)
