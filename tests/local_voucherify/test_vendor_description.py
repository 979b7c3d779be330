"""Stories that check answers against the vendor's own API description."""

from __future__ import annotations

import pytest

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


def _answer(path, method, status):
    escaped = path.replace("~", "~0").replace("/", "~1")
    return f"/paths/{escaped}/{method}/responses/{status}/content/application~1json/schema"


@pytest.mark.parametrize("resource", BULK_RESULTS)
def test_scheduling_and_results_fit(fits_vendor_schema, shop, resource):
    records = [{"source_id": "x", "code": "x", "metadata": {}}, {"metadata": 1}]
    path = f"/v1/{resource}/bulk/async"
    scheduled = shop.http.post(path, json=records).json()
    action = shop.poll(scheduled["async_action_id"])

    fits_vendor_schema(resource, _answer(path, "post", 202), scheduled)
    fits_vendor_schema("async-actions", "/components/schemas/AsyncActionBase", action)
    assert action["result"]["errors"]
    fits_vendor_schema("async-actions", f"/components/schemas/{BULK_RESULTS[resource]}", action["result"])


@pytest.mark.parametrize("resource", METADATA_RESULTS)
def test_results_of_metadata_updates_fit(fits_vendor_schema, shop, resource):
    action = shop.poll(shop.submit_metadata(resource, ["x", 7], {"a": 1}))

    fits_vendor_schema("async-actions", "/components/schemas/AsyncActionBase", action)
    fits_vendor_schema("async-actions", f"/components/schemas/{METADATA_RESULTS[resource]}", action["result"])


def test_the_list_of_actions_fits(fits_vendor_schema, shop):
    shop.server.next_actions(stuck="ENQUEUED")
    shop.submit("customers", [])
    shop.submit("vouchers", [])

    listed = shop.http.get("/v1/async-actions").json()
    fits_vendor_schema("async-actions", _answer("/v1/async-actions", "get", 200), listed)


@pytest.mark.parametrize(
    ("resource", "parameter"), [("customers", "customerId"), ("products", "productId"), ("vouchers", "code")]
)
def test_objects_fit(fits_vendor_schema, shop, resource, parameter):
    shop.server.add_voucher("x")
    shop.update(resource, [{"source_id": "x", "code": "x", "metadata": {"a": 1}}])

    path = f"/v1/{resource}/{{{parameter}}}"
    fits_vendor_schema(resource, _answer(path, "get", 200), shop.http.get(f"/v1/{resource}/x").json())
    fits_vendor_schema(resource, _answer(path, "get", 404), shop.http.get(f"/v1/{resource}/y").json())


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
def test_single_records_and_lists_fit(fits_vendor_schema, shop, method, path, template, status, content):
    shop.http.post("/v1/customers", json={"source_id": "c1", "name": "Ann", "birthdate": "1990-01-02"})
    shop.http.post("/v1/products", json={"source_id": "p1", "name": "Shirt", "attributes": ["size"]})
    shop.server.add_segment("Gold", ["c1"])
    shop.server.add_activity("c1")
    shop.server.add_voucher("A", holder_id=shop.server.customers["c1"]["id"])

    answer = shop.http.request(method, path, json=content)

    assert answer.status_code == status, answer.text
    fits_vendor_schema(path.split("/")[2].partition("?")[0], _answer(template, method, status), answer.json())


@pytest.mark.parametrize(
    ("resource", "tag", "status", "result"),
    [
        ("customers", "customers", 202, "17_res_obj_get_async_action_result_customers_import_csv"),
        ("products", "products", 200, "AsyncActionResultProductsImportCSV"),
        ("skus", "products", 200, "17_res_obj_get_async_action_result_skus_import_csv"),
    ],
)
def test_imports_fit(fits_vendor_schema, shop, resource, tag, status, result):
    path = f"/v1/{resource}/importCSV"
    file = b"name,source_id,product_id\nShirt,p1,p1\n,p2,p2\nx\n"
    scheduled = shop.http.post(path, files={"file": ("x.csv", file)})
    action = shop.poll(scheduled.json()["async_action_id"])

    fits_vendor_schema(tag, _answer(path, "post", status), scheduled.json())
    fits_vendor_schema("async-actions", "/components/schemas/AsyncActionBase", action)
    assert action["result"]["failed"]
    fits_vendor_schema("async-actions", f"/components/schemas/{result}", action["result"])
    no_file = shop.http.post("/v1/products/importCSV", json={})
    fits_vendor_schema("products", _answer("/v1/products/importCSV", "post", 400), no_file.json())


def test_metadata_schemas_fit(fits_vendor_schema, open_shop):
    definitions = {"a": {"type": "string", "max_length": 3}, "b": {"type": "date", "deleted": True}}
    shop = open_shop(metadata_schemas={"customers": {"properties": definitions}})

    schema = shop.http.get("/v1/metadata-schemas/customer").json()
    fits_vendor_schema("metadata-schemas", _answer("/v1/metadata-schemas/{resource}", "get", 200), schema)


def test_oauth_answers_fit(fits_vendor_schema, shop):
    token = shop.http.post("/v1/oauth/token", data={"grant_type": "client_credentials", "scope": "api"}).json()
    introspected = shop.http.post("/v1/oauth/introspect", data={"access_token": token["access_token"]}).json()
    refused = shop.http.post("/v1/oauth/token", data={"grant_type": "x"}).json()

    fits_vendor_schema("oauth", _answer("/v1/oauth/token", "post", 200), token)
    fits_vendor_schema("oauth", _answer("/v1/oauth/introspect", "post", 200), introspected)
    fits_vendor_schema("oauth", _answer("/v1/oauth/token", "post", 400), refused)


def test_the_413_and_query_errors_fit(fits_vendor_schema, open_shop):
    shop = open_shop(max_body_bytes=1)
    path = "/v1/customers/bulk/async"

    fits_vendor_schema("customers", _answer(path, "post", 413), shop.http.post(path, json=[]).json())
    wrong_query = shop.http.get("/v1/async-actions?end_date=x").json()
    fits_vendor_schema("async-actions", _answer("/v1/async-actions", "get", 400), wrong_query)
