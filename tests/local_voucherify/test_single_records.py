"""Stories about single customers, products and vouchers as any HTTP client sees them."""

from __future__ import annotations

import pytest

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/customers/nobody", 404),
        ("PUT", "/v1/customers/nobody", 404),
        ("DELETE", "/v1/customers/nobody", 404),
        ("POST", "/v1/customers/nobody/permanent-deletion", 404),
        ("GET", "/v1/customers/nobody/activity", 404),
        ("GET", "/v1/customers/nobody/redeemables", 404),
        ("GET", "/v1/customers/nobody/elsewhere", 404),
        ("PUT", "/v1/customers/nobody/consents", 404),
        ("POST", "/v1/customers/nobody", 405),
        ("PATCH", "/v1/customers/nobody", 405),
        ("DELETE", "/v1/products/nothing", 404),
        ("POST", "/v1/vouchers", 405),
        ("GET", "/v1/products/nothing/skus", 404),
    ],
)
def test_what_is_not_there_is_told(shop, method, path, status):
    answer = shop.http.request(method, path, json={} if method in ("PUT", "POST") else None)

    assert (answer.status_code, answer.json()["code"]) == (status, status)


@pytest.mark.parametrize(
    ("resource", "content", "details"),
    [
        ("customers", b"{", "Payload is not valid JSON"),
        ("customers", b"[]", "Payload should be an object"),
        ("customers", b'{"name":5}', "Property .name must be a string"),
        ("customers", b'{"id":5}', "Property .id must be a string"),
        ("customers", b'{"birthdate":"soon"}', "Property .birthdate must be a date in the format YYYY-MM-DD"),
        ("products", b'{"price":1.5}', "Property .price must be an integer"),
        ("vouchers/A", b"{}", "Payload should have required property 'type'"),
        ("vouchers/A", b'{"type":"GIFT_VOUCHER"}', "Payload should have required property 'gift'"),
    ],
)
def test_what_is_no_record_is_refused(shop, resource, content, details):
    answer = shop.http.post(f"/v1/{resource}", content=content, headers=JSON)

    assert (answer.status_code, answer.json()["key"]) == (400, "invalid_payload")
    assert answer.json()["details"] == details


def test_a_body_of_another_type_is_refused(shop):
    assert shop.http.post("/v1/customers", content=b"{}").status_code == 415


def test_metadata_is_held_against_its_schema(open_shop):
    shop = open_shop(metadata_schemas={"customers": {"properties": {"age": {"type": "number", "optional": False}}}})

    missing = shop.http.post("/v1/customers", json={"source_id": "c1"})
    wrong = shop.http.post("/v1/customers", json={"source_id": "c1", "metadata": {"age": "7"}})

    assert missing.json()["key"] == wrong.json()["key"] == "metadata_validation_failed"
    assert shop.http.post("/v1/customers", json={"source_id": "c1", "metadata": {"age": 7}}).status_code == 200
    assert shop.http.put("/v1/customers/c1", json={"name": "Ann"}).status_code == 200


@pytest.mark.parametrize(("mode", "left"), [("merge", {"a": 1, "b": 2}), ("replace", {"b": 2})])
def test_metadata_is_merged_or_replaced_as_in_bulk(open_shop, mode, left):
    shop = open_shop(metadata_mode=mode)
    shop.http.post("/v1/customers", json={"source_id": "c1", "metadata": {"a": 1}})

    assert shop.http.put("/v1/customers/c1", json={"metadata": {"b": 2}}).json()["metadata"] == left


def test_each_birthdate_is_kept_and_one_stands_in_for_the_other(shop):
    both = {"birthday": "2022-01-02", "birthdate": "2022-01-01"}

    assert both.items() <= shop.http.post("/v1/customers", json={"source_id": "c1", **both}).json().items()
    only_old = shop.http.post("/v1/customers", json={"source_id": "c2", "birthday": "2022-01-02"}).json()
    assert (only_old["birthday"], only_old["birthdate"]) == ("2022-01-02", "2022-01-02")


def test_an_unknown_id_in_a_post_is_not_created(shop):
    assert shop.http.post("/v1/customers", json={"id": "cust_00", "name": "x"}).status_code == 404


def test_fields_that_a_voucher_cannot_change_are_skipped(shop):
    shop.server.add_voucher("A", campaign="Spring")

    changed = shop.http.put("/v1/vouchers/A", json={"campaign": "Fall", "active": False}).json()

    assert (changed["campaign"], changed["active"]) == ("Spring", False)


@pytest.mark.parametrize(
    "query",
    [
        "customers?limit=0",
        "customers?limit=x",
        "customers?page=100",
        "customers?order=name",
        "customers?created_at[before]=x",
        "customers?starting_after=x",
        "vouchers?page=100",
        "vouchers?order=name",
        "vouchers?filters[code][conditions][$contains]=x",
        "products?limit=101",
        "products?start_date=x",
        "customers/c1/activity?limit=101",
        "customers/c1/activity?order=id",
        "customers/c1/activity?starting_after_id=unknown",
    ],
)
def test_a_wrong_query_is_refused(shop, query):
    shop.http.post("/v1/customers", json={"source_id": "c1"})

    answer = shop.http.get(f"/v1/{query}")

    assert (answer.status_code, answer.json()["key"]) == (400, "invalid_query_params")


def test_a_token_needs_the_scope(shop):
    token = shop.http.post("/v1/oauth/token", data={"grant_type": "client_credentials", "scope": "products"}).json()
    headers = {"Authorization": f"Bearer {token['access_token']}"}

    assert shop.http.get("/v1/products", headers=headers).status_code == 200
    assert shop.http.get("/v1/customers", headers=headers).status_code == 403
    assert shop.http.post("/v1/skus/importCSV", headers=headers).status_code == 403


def test_records_are_counted_by_the_limit_on_calls(open_shop):
    shop = open_shop(api_calls=(1, 60))

    assert shop.http.get("/v1/customers").status_code == 200
    assert shop.http.get("/v1/customers").status_code == 429


def test_a_cursor_does_not_include_its_own_time(open_shop, clock):
    shop = open_shop(clock=clock)
    for name in ("c1", "c2", "c3"):
        shop.http.post("/v1/customers", json={"source_id": name})
        clock.turn(1)
    second = shop.server.customers["c2"]["created_at"]

    after = shop.http.get("/v1/customers", params={"order": "created_at", "starting_after": second}).json()
    before = shop.http.get("/v1/customers", params={"starting_after": second}).json()

    assert [customer["source_id"] for customer in after["customers"]] == ["c3"]
    assert [customer["source_id"] for customer in before["customers"]] == ["c1"]


def test_a_reset_forgets_segments_and_activities(shop):
    shop.http.post("/v1/customers", json={"source_id": "c1"})
    shop.server.add_segment("Gold", ["c1"])

    shop.server.reset()
    shop.http.post("/v1/customers", json={"source_id": "c1"})

    assert shop.http.get("/v1/customers/c1/segments").json()["total"] == 0
    assert len(shop.http.get("/v1/customers/c1/activity").json()["data"]) == 1


def test_what_was_never_updated_is_shown_as_the_vendor_shows_it(shop):
    customer = shop.http.post("/v1/customers", json={"source_id": "c1"}).json()
    voucher = shop.http.post("/v1/vouchers/A", json={"type": "GIFT_VOUCHER", "gift": {"amount": 1}}).json()
    product = shop.http.post("/v1/products", json={"source_id": "p1"}).json()

    assert not {"updated_at", "metadata", "assets"} & customer.keys()
    assert customer["address"] is None
    assert (voucher["updated_at"], product["updated_at"], product["metadata"]) == (None, None, {})
    assert shop.http.put("/v1/customers/c1", json={"metadata": {}}).json().keys() >= {"updated_at", "metadata"}
    assert shop.http.get("/v1/customers/c1").json()["updated_at"] is not None


def test_a_list_by_update_begins_with_what_was_never_updated(shop):
    for source_id in ("c1", "c2"):
        shop.http.post("/v1/customers", json={"source_id": source_id})
    updated = shop.http.put("/v1/customers/c1", json={"name": "Ann"}).json()["updated_at"]

    def listed(**query):
        found = shop.http.get("/v1/customers", params={"order": "updated_at", **query}).json()["customers"]
        return [customer["source_id"] for customer in found]

    assert listed() == ["c2", "c1"]
    assert listed(starting_after="2020-01-01T00:00:00.000Z") == ["c1"]
    assert listed(starting_after=updated) == []
    assert listed(**{"updated_at[before]": "2100-01-01"}) == ["c1"]


def test_only_the_reading_of_a_product_shows_its_skus(shop):
    posted = shop.http.post("/v1/products", json={"source_id": "p1"}).json()
    put = shop.http.put("/v1/products/p1", json={"name": "Shirt"}).json()
    read = shop.http.get("/v1/products/p1").json()

    assert ["skus" in answer for answer in (posted, put, read)] == [False, False, True]


def test_a_voucher_without_a_type_has_that_of_its_fields(shop):
    discount = {"type": "AMOUNT", "amount_off": 500}
    created = shop.http.post("/v1/vouchers/A", json={"discount": discount, "validation_rules": ["val_1"]})

    assert (created.status_code, created.json()["type"]) == (200, "DISCOUNT_VOUCHER")


def test_a_project_of_another_region_says_where_it_is(open_shop):
    shop = open_shop(right_url="https://as1.api.voucherify.io")

    answer = shop.http.get("/v1/customers")

    assert (answer.status_code, answer.json()["key"]) == (403, "wrong_api_endpoint")
    assert "https://as1.api.voucherify.io" in answer.json()["details"]
