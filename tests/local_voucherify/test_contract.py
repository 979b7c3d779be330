"""Stories that hold answers against the contract, which is what the vendor's API description says."""

from __future__ import annotations

import re

import pytest
from openapi import assert_fits, assert_fits_answer

from airflow_provider_voucherify.local_voucherify import endpoints, metadata_schema
from airflow_provider_voucherify.local_voucherify.contract import contract, words
from airflow_provider_voucherify.models import endpoints as client_tables

BULK_RESULTS = {
    "customers": "AsyncActionResultCustomersBulkUpdateResponseBody",
    "products": "AsyncActionResultProductsBulkUpdateResponseBody",
    "vouchers": "AsyncActionResultVouchersBulkUpdateResponseBody",
}
METADATA_RESULTS = {
    "customers": "AsyncActionResultCustomersMetadataUpdateResponseBody",
    "products": "AsyncActionResultProductsMetadataUpdateResponseBody",
    "vouchers": "AsyncActionResultVouchersMetadataUpdateResponseBody",
}


@pytest.mark.parametrize("resource", BULK_RESULTS)
def test_scheduling_and_results_fit(shop, resource):
    records = [{"source_id": "x", "code": "x", "metadata": {}}, {"metadata": 1}]
    path = f"/v1/{resource}/bulk/async"
    scheduled = shop.http.post(path, json=records).json()
    action = shop.poll(scheduled["async_action_id"])

    assert_fits_answer("POST", path, 202, scheduled)
    assert_fits("AsyncActionBase", action)
    assert action["result"]["errors"]
    assert_fits(BULK_RESULTS[resource], action["result"])


@pytest.mark.parametrize("resource", METADATA_RESULTS)
def test_results_of_metadata_updates_fit(shop, resource):
    action = shop.poll(shop.submit_metadata(resource, ["x", 7], {"a": 1}))

    assert_fits("AsyncActionBase", action)
    assert_fits(METADATA_RESULTS[resource], action["result"])


def test_the_list_of_actions_fits(shop):
    shop.server.next_actions(stuck="ENQUEUED")
    shop.submit("customers", [])
    shop.submit("vouchers", [])

    listed = shop.http.get("/v1/async-actions").json()
    assert_fits_answer("GET", "/v1/async-actions", 200, listed)


@pytest.mark.parametrize(
    ("resource", "parameter"), [("customers", "customerId"), ("products", "productId"), ("vouchers", "code")]
)
def test_objects_fit(shop, resource, parameter):
    shop.server.add_voucher("x")
    shop.update(resource, [{"source_id": "x", "code": "x", "metadata": {"a": 1}}])

    path = f"/v1/{resource}/{{{parameter}}}"
    assert_fits_answer("GET", path, 200, shop.http.get(f"/v1/{resource}/x").json())
    assert_fits_answer("GET", path, 404, shop.http.get(f"/v1/{resource}/y").json())


CUSTOMER = "/v1/customers/{customerId}"
DISCOUNT = {"type": "DISCOUNT_VOUCHER", "discount": {"type": "PERCENT", "percent_off": 10}}


@pytest.mark.parametrize(
    ("method", "path", "template", "status", "content"),
    [
        ("post", "/v1/customers", "/v1/customers", 200, {"source_id": "c2", "name": "Bo"}),
        ("put", "/v1/customers/c1", CUSTOMER, 200, {"name": "Anna"}),
        ("put", "/v1/customers/no", CUSTOMER, 404, {}),
        ("delete", "/v1/customers/no", CUSTOMER, 404, None),
        ("post", "/v1/customers/c1/permanent-deletion", f"{CUSTOMER}/permanent-deletion", 200, None),
        ("post", "/v1/customers/no/permanent-deletion", f"{CUSTOMER}/permanent-deletion", 404, None),
        ("get", "/v1/customers", "/v1/customers", 200, None),
        ("get", "/v1/customers/c1/activity?limit=1", f"{CUSTOMER}/activity", 200, None),
        ("get", "/v1/customers/no/activity", f"{CUSTOMER}/activity", 404, None),
        ("get", "/v1/customers/c1/activities", f"{CUSTOMER}/activities", 200, None),
        ("get", "/v1/customers/c1/segments", f"{CUSTOMER}/segments", 200, None),
        ("get", "/v1/customers/c1/redeemables", f"{CUSTOMER}/redeemables", 200, None),
        ("get", "/v1/customers/no/redeemables", f"{CUSTOMER}/redeemables", 404, None),
        ("post", "/v1/products", "/v1/products", 200, {"source_id": "p2", "name": "Shirt"}),
        ("put", "/v1/products/p1", "/v1/products/{productId}", 200, {"price": 1}),
        ("get", "/v1/products", "/v1/products", 200, None),
        ("post", "/v1/vouchers/B", "/v1/vouchers/{code}", 200, DISCOUNT),
        ("post", "/v1/vouchers/A", "/v1/vouchers/{code}", 409, DISCOUNT),
        ("put", "/v1/vouchers/A", "/v1/vouchers/{code}", 200, {"active": False}),
        ("get", "/v1/vouchers", "/v1/vouchers", 200, None),
    ],
)
def test_single_records_and_lists_fit(shop, method, path, template, status, content):
    shop.http.post("/v1/customers", json={"source_id": "c1", "name": "Ann", "birthdate": "1990-01-02"})
    shop.http.post("/v1/products", json={"source_id": "p1", "name": "Shirt", "attributes": ["size"]})
    shop.server.add_segment("Gold", ["c1"])
    shop.server.add_activity("c1")
    shop.server.add_voucher("A", holder_id=shop.server.customers["c1"]["id"])

    answer = shop.http.request(method, path, json=content)

    assert answer.status_code == status, answer.text
    assert_fits_answer(method.upper(), template, status, answer.json())


@pytest.mark.parametrize(
    ("resource", "tag", "status", "result"),
    [
        ("customers", "customers", 202, "17_res_obj_get_async_action_result_customers_import_csv"),
        ("products", "products", 200, "AsyncActionResultProductsImportCSV"),
        ("skus", "products", 200, "17_res_obj_get_async_action_result_skus_import_csv"),
    ],
)
def test_imports_fit(shop, resource, tag, status, result):
    path = f"/v1/{resource}/importCSV"
    file = b"name,source_id,product_id\nShirt,p1,p1\n,p2,p2\nx\n"
    scheduled = shop.http.post(path, files={"file": ("x.csv", file)})
    action = shop.poll(scheduled.json()["async_action_id"])

    assert_fits_answer("POST", path, status, scheduled.json())
    assert_fits("AsyncActionBase", action)
    assert action["result"]["failed"]
    assert_fits(result, action["result"])
    no_file = shop.http.post("/v1/products/importCSV", json={})
    assert_fits_answer("POST", "/v1/products/importCSV", 400, no_file.json())


def test_metadata_schemas_fit(open_shop):
    definitions = {"a": {"type": "string", "max_length": 3}, "b": {"type": "date", "deleted": True}}
    shop = open_shop(metadata_schemas={"customers": {"properties": definitions}})

    schema = shop.http.get("/v1/metadata-schemas/customer").json()
    assert_fits_answer("GET", "/v1/metadata-schemas/{resource}", 200, schema)


def test_oauth_answers_fit(shop):
    token = shop.http.post("/v1/oauth/token", data={"grant_type": "client_credentials", "scope": "api"}).json()
    introspected = shop.http.post("/v1/oauth/introspect", data={"access_token": token["access_token"]}).json()
    refused = shop.http.post("/v1/oauth/token", data={"grant_type": "x"}).json()

    assert_fits_answer("POST", "/v1/oauth/token", 200, token)
    assert_fits_answer("POST", "/v1/oauth/introspect", 200, introspected)
    assert_fits_answer("POST", "/v1/oauth/token", 400, refused)


def test_the_413_and_query_errors_fit(open_shop):
    shop = open_shop(max_body_bytes=1)
    path = "/v1/customers/bulk/async"

    assert_fits_answer("POST", path, 413, shop.http.post(path, json=[]).json())
    wrong_query = shop.http.get("/v1/async-actions?end_date=x").json()
    assert_fits_answer("GET", "/v1/async-actions", 400, wrong_query)


@pytest.mark.parametrize("operation", contract()["operations"])
def test_every_call_of_the_contract_is_served(shop, operation):
    method, path = operation.split()

    answer = shop.http.request(method, re.sub(r"\{[^}]*\}", "x", path), json={})

    assert answer.status_code != 405
    assert answer.status_code != 404 or not answer.content or answer.json()["key"] == "not_found", "there is no route"


@pytest.mark.parametrize("table", ["UPDATE_ENDPOINTS", "METADATA_ENDPOINTS"])
@pytest.mark.parametrize("resource", endpoints.RESOURCES)
def test_the_client_s_table_of_bulk_calls_has_the_same_facts(table, resource):
    ours, theirs = getattr(client_tables, table)[resource], getattr(endpoints, table)[resource]

    for name in ("path", "action_type", "key", "required", "ids_field", "upserts"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.scope == theirs.operation.scope
    assert _facts(ours.fields) == _facts(theirs.fields)
    assert theirs.operation.max_body_bytes == client_tables.MAX_BODY_BYTES


def _facts(fields):
    return {name: (field.type, field.nullable, _facts(field.fields)) for name, field in fields.items()}


@pytest.mark.parametrize("resource", ["customers", "products", "skus"])
def test_the_client_s_table_of_imports_has_the_same_facts(resource):
    ours, theirs = client_tables.CSV_IMPORT_ENDPOINTS[resource], endpoints.CSV_IMPORT_ENDPOINTS[resource]

    assert (ours.path, ours.scope) == (theirs.operation.path, theirs.operation.scope)
    assert (ours.action_type, ours.required) == (theirs.action_type, theirs.required)


def test_every_type_of_metadata_is_known():
    assert set(metadata_schema.TYPES) == words("MetadataSchemaDefinitionDeprecated", "type")
