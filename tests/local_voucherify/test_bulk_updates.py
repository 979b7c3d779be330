"""Stories about what the bulk endpoints store and how it reads back."""

from __future__ import annotations

from urllib.parse import quote

import pytest


def test_unknown_customers_and_products_are_created(shop):
    customers = shop.update("customers", [{"source_id": "c1", "name": "Jane", "metadata": {"tier": "gold"}}])
    products = shop.update("products", [{"source_id": "p1", "price": 10000, "attributes": ["color"]}])

    assert (customers["type"], products["type"]) == ("CUSTOMERS.BULK_UPDATE", "PRODUCTS.BULK_UPDATE")
    assert customers["result"]["done_count"] == products["result"]["done_count"] == 1
    assert shop.server.customers["c1"]["metadata"] == {"tier": "gold"}
    assert shop.server.products["p1"]["price"] == 10000


def test_a_created_object_is_reported_as_not_found_but_updated_and_later_as_found(shop):
    first = shop.update("customers", [{"source_id": "c1"}])
    second = shop.update("customers", [{"source_id": "c1"}])

    assert shop.http.get(first["result"]["reports"][0]).text == "source_id,found,updated\r\nc1,false,true\r\n"
    assert shop.http.get(second["result"]["reports"][0]).text == "source_id,found,updated\r\nc1,true,true\r\n"


def test_fields_that_an_update_does_not_name_stay(shop):
    shop.update("customers", [{"source_id": "c1", "name": "Jane", "address": {"city": "Wien"}, "metadata": {"a": 1}}])
    shop.update("customers", [{"source_id": "c1", "address": None, "metadata": {"b": 2}}])

    customer = shop.server.customers["c1"]
    assert (customer["name"], customer["address"], customer["metadata"]) == ("Jane", None, {"a": 1, "b": 2})


def test_metadata_is_replaced_where_the_option_says_so(open_shop):
    shop = open_shop(metadata_mode="replace")
    shop.update("customers", [{"source_id": "c1", "metadata": {"a": 1}}])
    shop.update("customers", [{"source_id": "c1", "metadata": {"b": 2}}])

    assert shop.server.customers["c1"]["metadata"] == {"b": 2}


def test_the_deprecated_birthday_is_the_same_as_birthdate(shop):
    shop.update("customers", [{"source_id": "c1", "birthday": "1990-01-31"}])

    assert shop.server.customers["c1"]["birthdate"] == "1990-01-31"


def test_one_metadata_object_goes_to_every_listed_id(shop):
    action = shop.poll(shop.submit_metadata("products", ["p1", "p2"], {"label": True}))

    assert action["type"] == "PRODUCTS.METADATA_UPDATE"
    assert [shop.server.products[key]["metadata"] for key in ("p1", "p2")] == [{"label": True}] * 2


def test_vouchers_are_updated_but_never_created(shop):
    shop.server.add_voucher("KNOWN", metadata={"lang": "pl"})
    action = shop.update("vouchers", [{"code": c, "metadata": {"lang": "en"}} for c in ("KNOWN", "UNKNOWN")])

    assert (action["result"]["done_count"], action["result"]["failed_count"]) == (1, 1)
    error = action["result"]["errors"][0]
    assert (error["key"], error["code"]) == ("not_found", "UNKNOWN")
    assert list(shop.server.vouchers) == ["KNOWN"]
    assert shop.server.vouchers["KNOWN"]["metadata"] == {"lang": "en"}
    report = shop.http.get(action["result"]["reports"][0]).text
    assert report == "code,found,updated\r\nKNOWN,true,true\r\nUNKNOWN,false,false\r\n"


def test_unknown_vouchers_count_as_done_where_the_option_says_so(open_shop):
    shop = open_shop(missing_vouchers="done")
    action = shop.poll(shop.submit_metadata("vouchers", ["UNKNOWN"], {"lang": "en"}))

    assert (action["result"]["done_count"], action["result"]["failed_count"]) == (1, 0)
    assert shop.http.get(action["result"]["reports"][0]).text.endswith("UNKNOWN,false,false\r\n")
    assert not shop.server.vouchers


@pytest.mark.parametrize("source_id", ["john@email.com", "a/b c", "zażółć%2F", "bulk/async", "?x=1#y"])
def test_an_object_is_read_by_its_percent_encoded_key_or_by_its_own_id(shop, source_id):
    shop.update("customers", [{"source_id": source_id}])

    customer = shop.http.get(f"/v1/customers/{quote(source_id, safe='')}").json()
    assert customer["source_id"] == source_id
    assert shop.http.get(f"/v1/customers/{customer['id']}").json() == customer


def test_a_key_with_a_slash_is_not_found_unless_it_is_encoded(shop):
    shop.update("customers", [{"source_id": "a/b"}])

    assert shop.http.get("/v1/customers/a/b").status_code == 404


@pytest.mark.parametrize(
    ("resource", "name"), [("customers", "customer"), ("products", "product"), ("vouchers", "voucher")]
)
def test_an_unknown_object_is_answered_with_the_documented_404(shop, resource, name):
    answer = shop.http.get(f"/v1/{resource}/nobody")

    assert answer.status_code == 404
    request_id = answer.json()["request_id"]
    assert request_id.startswith("v-")
    assert answer.json() == {
        "code": 404,
        "key": "not_found",
        "message": "Resource not found",
        "details": f"Cannot find {name} with id nobody",
        "request_id": request_id,
        "resource_id": "nobody",
        "resource_type": name,
    }


def test_without_stored_records_only_ids_are_kept(open_shop):
    shop = open_shop(store_records=False)
    shop.update("customers", [{"source_id": "c1", "name": "Jane"}])

    assert list(shop.server.customers) == ["c1"]
    assert "name" not in shop.server.customers["c1"]


def test_an_empty_array_is_an_action_with_nothing_to_do(shop):
    action = shop.update("customers", [])

    assert (action["status"], action["operation_status"]) == ("DONE", "SUCCESS")
    assert shop.http.get(action["result"]["reports"][0]).text == "source_id,found,updated\r\n"
