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


def test_metadata_schemas_fit(fits_vendor_schema, open_shop):
    shop = open_shop(metadata_schemas={"customers": {"properties": {"a": {"type": "string", "max_length": 3}}}})

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
