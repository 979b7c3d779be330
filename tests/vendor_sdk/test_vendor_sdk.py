"""
The vendor's own Python SDK against the local Voucherify: what it sends is taken, what it gets back it can read.

The SDK's models are strict (unknown enum values and wrong types are errors), so an answer that they read has the form
that the vendor's own generator gave it. Where the SDK and the local Voucherify differ, the difference is a test of its
own that says so.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import voucherify
from openapi import assert_valid_requests
from readme_file import ROOT
from voucherify import (
    AsyncActionsApi,
    CustomersApi,
    CustomersCreateRequestBody,
    CustomersMetadataUpdateInBulkRequestBody,
    CustomersUpdateInBulkRequestBody,
    CustomersUpdateRequestBody,
    ExportsApi,
    ExportsCreateRequestBody,
    ProductsApi,
    ProductsCreateRequestBody,
    ProductsMetadataUpdateInBulkRequestBody,
    ProductsUpdateInBulkRequestBody,
    ProductsUpdateRequestBody,
    VouchersApi,
    VouchersMetadataUpdateInBulkRequestBody,
    VouchersUpdateInBulkItemRequestBody,
)

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.exported_objects import EXPORTED_OBJECTS, ExportedObject


@pytest.fixture
def server() -> Iterator[LocalVoucherify]:
    with LocalVoucherify(keep_bodies=True) as running:
        yield running
        assert_valid_requests(running.received)


@pytest.fixture
def sdk(server: LocalVoucherify) -> Iterator[voucherify.ApiClient]:
    configuration = voucherify.Configuration(host=server.base_url)
    configuration.api_key = {"X-App-Id": server.options.app_id, "X-App-Token": server.options.secret_key}
    with voucherify.ApiClient(configuration) as client:
        yield client
        client.rest_client.pool_manager.clear()


def finished(sdk: voucherify.ApiClient, action_id: str) -> voucherify.AsyncActionGetResponseBody:
    """Poll an action to its end, as a user of the SDK does."""
    for _ in range(50):
        action = AsyncActionsApi(sdk).get_async_action(action_id)
        if action.status in ("DONE", "FAILED"):
            return action
        time.sleep(0.02)
    raise AssertionError(f"{action_id} does not end")


def test_customers_in_bulk(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    scheduled = CustomersApi(sdk).update_customers_in_bulk(
        [
            CustomersUpdateInBulkRequestBody(source_id="c1", name="Ann", birthdate=date(1990, 1, 2)),
            CustomersUpdateInBulkRequestBody(source_id="c2", metadata={"tier": "gold"}),
        ]
    )
    action = finished(sdk, scheduled.async_action_id)

    assert (action.type, action.operation_status) == ("CUSTOMERS.BULK_UPDATE", "SUCCESS")
    assert action.result["done_count"] == 2
    assert server.customers["c1"]["birthdate"] == "1990-01-02"
    assert server.customers["c2"]["metadata"] == {"tier": "gold"}


def test_products_in_bulk(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    scheduled = ProductsApi(sdk).update_products_in_bulk(
        [ProductsUpdateInBulkRequestBody(source_id="p1", name="Shirt", price=4500, attributes=["size"])]
    )

    assert finished(sdk, scheduled.async_action_id).type == "PRODUCTS.BULK_UPDATE"
    assert server.products["p1"]["price"] == 4500


def test_vouchers_in_bulk(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    server.add_voucher("A")
    scheduled = VouchersApi(sdk).update_vouchers_in_bulk(
        [
            VouchersUpdateInBulkItemRequestBody(code="A", metadata={"n": 1}),
            VouchersUpdateInBulkItemRequestBody(code="B", metadata={"n": 2}),
        ]
    )
    action = finished(sdk, scheduled.async_action_id)

    assert (action.result["done_count"], action.result["failed_count"]) == (1, 1)
    assert action.result["errors"][0]["code"] == "B"


def test_metadata_in_bulk(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    server.add_voucher("A")
    scheduled = [
        CustomersApi(sdk).update_customers_metadata_in_bulk(
            CustomersMetadataUpdateInBulkRequestBody(source_ids=["c1"], metadata={"a": 1})
        ),
        ProductsApi(sdk).update_products_metadata_in_bulk(
            ProductsMetadataUpdateInBulkRequestBody(source_ids=["p1"], metadata={"a": 1})
        ),
        VouchersApi(sdk).update_vouchers_metadata_in_bulk(
            VouchersMetadataUpdateInBulkRequestBody(codes=["A"], metadata={"a": 1})
        ),
    ]
    types = [finished(sdk, one.async_action_id).type for one in scheduled]

    assert types == ["CUSTOMERS.METADATA_UPDATE", "PRODUCTS.METADATA_UPDATE", "VOUCHERS.METADATA_UPDATE"]
    stored = (server.customers["c1"], server.products["p1"], server.vouchers["A"])
    assert [one["metadata"] for one in stored] == [{"a": 1}] * 3


def test_a_failed_action_and_an_unfinished_one_are_read(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    server.next_actions(status="FAILED")
    server.next_actions(stuck="ENQUEUED")
    api = CustomersApi(sdk)
    failed, stuck = (
        api.update_customers_in_bulk([CustomersUpdateInBulkRequestBody(source_id="c1")]).async_action_id
        for _ in range(2)
    )

    assert finished(sdk, failed).operation_status == "FAILED"
    unfinished = AsyncActionsApi(sdk).get_async_action(stuck)
    assert (unfinished.status, unfinished.operation_status, unfinished.progress) == ("ENQUEUED", "UNKNOWN", 0)


def test_actions_are_listed(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    ids = [
        CustomersApi(sdk).update_customers_in_bulk([CustomersUpdateInBulkRequestBody(source_id=str(n))]).async_action_id
        for n in range(3)
    ]

    listed = AsyncActionsApi(sdk).list_async_actions(limit=2)

    assert [action.id for action in listed.async_actions] == ids[:0:-1]


def test_an_unknown_action_is_the_sdk_s_not_found(sdk: voucherify.ApiClient) -> None:
    with pytest.raises(voucherify.exceptions.NotFoundException) as raised:
        AsyncActionsApi(sdk).get_async_action("aa_0")

    assert "Cannot find async_action with id aa_0" in raised.value.body


def test_customers_one_by_one(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    api = CustomersApi(sdk)

    created = api.create_customer(CustomersCreateRequestBody(source_id="c 1", name="Ann"))
    changed = api.update_customer("c 1", CustomersUpdateRequestBody(metadata={"tier": "gold"}))
    read = api.get_customer(created.id)

    assert (created.object, changed.metadata, read.name) == ("customer", {"tier": "gold"}, "Ann")
    assert read.summary.orders.total_count == 0
    api.delete_customer("c 1")
    with pytest.raises(voucherify.exceptions.NotFoundException):
        api.get_customer("c 1")


def test_a_customer_is_deleted_for_good(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    api = CustomersApi(sdk)
    api.create_customer(CustomersCreateRequestBody(source_id="c1"))

    assert api.customer_permanently_deletion("c1").status == "DONE"
    assert "c1" not in server.customers


def test_customers_are_listed(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    api = CustomersApi(sdk)
    for number in range(3):
        api.create_customer(CustomersCreateRequestBody(source_id=f"c{number}", email=f"{number}@x"))
    segment_id = server.add_segment("Some", ["c0", "c2"])

    newest = api.list_customers(limit=2, order=voucherify.ParameterOrderListCustomers.MINUS_SOURCE_ID)
    found = api.list_customers(email="1@x", created_at_after="2020-01-01T00:00:00Z")
    members = api.list_customers(segment_id=segment_id)

    assert [customer.source_id for customer in newest.customers] == ["c2", "c1"]
    assert [customer.source_id for customer in found.customers] == ["c1"]
    assert {customer.source_id for customer in members.customers} == {"c0", "c2"}


def test_what_is_known_of_a_customer(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    api = CustomersApi(sdk)
    customer = api.create_customer(CustomersCreateRequestBody(source_id="c1"))
    server.add_segment("Gold", ["c1"])
    server.add_voucher("A", holder_id=customer.id)

    assert [one.name for one in api.list_customer_segments("c1").data] == ["Gold"]
    assert [one.type for one in api.list_customer_activity("c1", limit=10).data] == ["customer.created"]
    assert [one.redeemable_object for one in api.list_customer_redeemables("c1").data] == ["voucher"]


def test_csv_imports(server: LocalVoucherify, sdk: voucherify.ApiClient, tmp_path: Path) -> None:
    customers, products = tmp_path / "customers.csv", tmp_path / "products.csv"
    customers.write_text("Source_id,Name\nc1,Zoë\nc2\n", encoding="utf-8")
    products.write_text("name,source_id\nShirt,p1\n", encoding="utf-8")

    scheduled = CustomersApi(sdk).import_customers_using_csv(str(customers))
    action = finished(sdk, scheduled.async_action_id)
    other = finished(sdk, ProductsApi(sdk).import_products_using_csv(str(products)).async_action_id)

    assert (action.type, action.result["done_count"], action.result["failed"][0]["row"]) == (
        "CUSTOMERS.IMPORT_CSV",
        1,
        2,
    )
    assert server.customers["c1"]["name"] == "Zoë"
    assert other.result["message"] == "1 product(s) imported successfully, 0 failed."


def test_products_one_by_one(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    api = ProductsApi(sdk)
    api.create_product(ProductsCreateRequestBody(source_id="p1", name="Shirt", price=4500))

    assert api.update_product("p1", ProductsUpdateRequestBody(price=5000)).price == 5000
    assert api.get_product("p1").name == "Shirt"
    assert [product.source_id for product in api.list_products().products] == ["p1"]


def test_vouchers_one_by_one(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    server.add_voucher("A", metadata={"n": 1})
    api = VouchersApi(sdk)

    assert api.get_voucher("A").metadata == {"n": 1}
    assert [voucher.code for voucher in api.list_vouchers().vouchers] == ["A"]


def test_the_sdk_s_null_trap_fails_its_records_here() -> None:
    """A record that the SDK makes of a dict has explicit nulls for all that the dict does not have."""
    record = CustomersUpdateInBulkRequestBody.from_dict({"source_id": "c1", "metadata": {"a": 1}})
    assert record is not None
    assert record.to_dict()["name"] is None

    with LocalVoucherify(app_id="app", secret_key="secret-of-another") as other:
        configuration = voucherify.Configuration(host=other.base_url)
        configuration.api_key = {"X-App-Id": "app", "X-App-Token": "secret-of-another"}
        with voucherify.ApiClient(configuration) as client:
            action_id = CustomersApi(client).update_customers_in_bulk([record]).async_action_id
            result = finished(client, action_id).result
            client.rest_client.pool_manager.clear()

    assert result["errors"][0]["details"] == "Property .name must be a string"


def test_exports(server: LocalVoucherify, sdk: voucherify.ApiClient) -> None:
    server.add_voucher("A")
    api = ExportsApi(sdk)

    created = api.create_export(ExportsCreateRequestBody(exported_object="voucher"))
    read = api.get_export(created.id)

    assert (created.status, read.status) == ("SCHEDULED", "DONE")
    assert read.result.url.startswith(f"{server.base_url}/v1/exports/{created.id}?token=")
    assert [one.id for one in api.list_exports(limit=10).exports] == [created.id]
    assert api.delete_export(created.id) is None


@pytest.mark.parametrize("exported", EXPORTED_OBJECTS.values(), ids=lambda exported: exported.name)
def test_the_words_of_exports_are_the_sdk_s(exported: ExportedObject) -> None:
    """The SDK has one list of words for all objects, and refuses what is not in it."""
    fields = list(exported.fields)
    for order in (sign + order for order in exported.orders for sign in ("", "-")):
        body = {"exported_object": exported.name, "parameters": {"fields": fields, "order": order}}
        read = ExportsCreateRequestBody.from_dict(body)
        assert read is not None
        assert read.parameters is not None
        assert (read.exported_object, read.parameters.fields, read.parameters.order) == (exported.name, fields, order)


def _methods(api: type) -> set[str]:
    suffixes = ("_with_http_info", "_without_preload_content")
    return {
        name
        for name, _ in inspect.getmembers(api, inspect.isfunction)
        if not name.startswith("_") and not name.endswith(suffixes)
    }


@pytest.mark.parametrize("api", [CustomersApi, AsyncActionsApi, ExportsApi])
def test_every_method_of_the_sdk_is_in_the_table(api: type) -> None:
    text = (ROOT / "docs" / "api-coverage.md").read_text(encoding="utf-8")
    section = text.partition(f"## {api.__name__}\n")[2].partition("\n## ")[0]

    assert _methods(api) <= set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))


@pytest.mark.parametrize("api", [CustomersApi, ProductsApi, VouchersApi, AsyncActionsApi, ExportsApi])
def test_the_table_names_methods_that_the_sdk_has(api: Any) -> None:
    text = (ROOT / "docs" / "api-coverage.md").read_text(encoding="utf-8")
    section = text.partition(f"## {api.__name__}\n")[2].partition("\n## ")[0]
    only_in_the_older_sdk = {"list_customer_activities", "update_customers_consents"}

    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) - only_in_the_older_sdk <= _methods(api)
