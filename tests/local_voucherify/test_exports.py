"""Stories about exports: what is in the file, under each reading of what the vendor does not say."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc

import httpx
import pytest
from openapi import assert_fits_answer

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.local_voucherify.export_requests import EXPORTED_OBJECTS
from airflow_provider_voucherify.local_voucherify.records import OBJECT_KINDS
from airflow_provider_voucherify.models.exported_objects import EXPORTED_OBJECTS as OF_THE_CLIENT


def create(shop, exported_object, **parameters):
    answer = shop.http.post("/v1/exports", json={"exported_object": exported_object, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def look(shop, export_id):
    return shop.http.get(f"/v1/exports/{export_id}").json()


def url_of(shop, export_id):
    return look(shop, export_id)["result"]["url"]


def lines(shop, exported_object, **parameters):
    """Return the lines of an export, the header included."""
    answer = shop.http.get(url_of(shop, create(shop, exported_object, **parameters)))
    assert answer.status_code == 200, answer.text
    return list(csv.reader(io.StringIO(answer.text, newline="")))


def column(shop, exported_object, name, **parameters):
    """Return the values of one column."""
    return [row[0] for row in lines(shop, exported_object, fields=[name], **parameters)][1:]


def conditions(**by_name):
    return {name: {"conditions": {f"${k}": v for k, v in given.items()}} for name, given in by_name.items()}


def customers(shop, *records):
    for record in records:
        assert shop.http.post("/v1/customers", json=record).status_code == 200


# Status


def test_an_export_is_scheduled_goes_on_and_is_done(open_shop, clock):
    shop = open_shop(export_seconds=100, clock=clock)
    created = shop.http.post("/v1/exports", json={"exported_object": "customer"}).json()
    seen = [created["status"]]
    for seconds in (24, 2, 73, 1):
        clock.turn(seconds)
        seen.append(look(shop, created["id"])["status"])

    assert seen == ["SCHEDULED", "SCHEDULED", "IN_PROGRESS", "IN_PROGRESS", "DONE"]
    assert created["result"] is None
    assert created["parameters"] == {"fields": ["name", "source_id"], "filters": {"junction": "and"}}


def test_exports_can_fail_stay_or_take_longer(open_shop, clock):
    shop = open_shop(clock=clock)
    shop.server.next_exports(status="ERROR", seconds=10)
    shop.server.next_exports(status="SCHEDULED")
    failing, stuck, usual = (create(shop, "order") for _ in range(3))
    clock.turn(5)
    assert [look(shop, one)["status"] for one in (failing, stuck, usual)] == ["IN_PROGRESS", "SCHEDULED", "DONE"]

    clock.turn(10_000)
    assert [look(shop, one)["status"] for one in (failing, stuck)] == ["ERROR", "SCHEDULED"]
    assert look(shop, failing)["result"] is None
    with pytest.raises(ValueError, match="status must be one of"):
        shop.server.next_exports(status="FAILED")


def test_an_export_has_what_was_there_when_it_was_created(shop):
    customers(shop, {"source_id": "c1", "name": "Ann"}, {"source_id": "c2"})
    export_id = create(shop, "customer", fields=["name"])

    shop.http.put("/v1/customers/c1", json={"name": "Anna"})
    shop.http.delete("/v1/customers/c2")
    customers(shop, {"source_id": "c3", "name": "Cy"})

    assert shop.http.get(url_of(shop, export_id)).text == "name\r\nAnn\r\n\r\n".replace("\r\n\r\n", '\r\n""\r\n')
    assert column(shop, "customer", "name") == ["Anna", "Cy"]


def test_exports_are_listed_by_time_and_status_and_deleted(open_shop, clock):
    shop = open_shop(clock=clock)
    shop.server.next_exports(status="ERROR")
    ids = [create(shop, "voucher") for _ in range(3)]

    def listed(query):
        return [one["id"] for one in shop.http.get(f"/v1/exports?{query}").json()["exports"]]

    assert listed("") == listed("order=-created_at") == ids[::-1]
    assert listed("order=created_at&limit=2&page=2") == ids[2:]
    assert listed("order=status")[-1] == listed("order=-status")[0] == ids[0]
    assert shop.http.delete(f"/v1/exports/{ids[0]}").status_code == 204
    assert shop.http.delete(f"/v1/exports/{ids[0]}").status_code == 404
    assert shop.http.get("/v1/exports").json()["total"] == 2


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "page=0", "page=101", "page=x", "order=id"])
def test_a_wrong_page_is_refused(shop, query):
    refused = shop.http.get(f"/v1/exports?{query}")

    assert (refused.status_code, refused.json()["key"]) == (400, "invalid_query_params")


def test_exports_end_with_a_reset(shop):
    export_id = create(shop, "order")
    shop.server.reset()

    assert shop.http.get(f"/v1/exports/{export_id}").status_code == 404


# The file: who gets it


def test_a_file_needs_its_token_and_the_keys(shop):
    url = url_of(shop, create(shop, "customer"))
    assert shop.http.get(url).headers["content-type"].startswith("text/csv")
    for wrong in (url + "x", url[:-1], url.partition("?")[0] + "?token=", url.partition("=")[0] + "=9e9.x"):
        assert shop.http.get(wrong).status_code == 401
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"X-App-Id": "shop-app-id", "X-App-Token": "other"}).json()["key"] == "unauthorized"


def test_a_token_is_for_one_file(shop):
    one, other = create(shop, "customer"), create(shop, "customer")

    assert shop.http.get(url_of(shop, one).replace(one, other)).status_code == 401


def test_a_file_can_need_no_keys(open_shop):
    shop = open_shop(exports_need_auth=False)

    assert httpx.get(url_of(shop, create(shop, "customer"))).text == "name,source_id\r\n"


def test_a_file_can_be_on_a_host_of_its_own(open_shop):
    shop = open_shop(report_host="separate")
    url = url_of(shop, create(shop, "customer"))

    assert not url.startswith(shop.server.base_url)
    assert shop.http.get(url).status_code == 200


def test_a_url_ends_and_each_look_gives_a_new_one(open_shop, clock):
    shop = open_shop(export_file_seconds=60, clock=clock)
    export_id = create(shop, "customer")
    url = url_of(shop, export_id)
    clock.turn(59)
    newer = url_of(shop, export_id)

    assert (shop.http.get(url).status_code, shop.http.get(newer).status_code) == (200, 200)
    clock.turn(1)
    assert (shop.http.get(url).status_code, shop.http.get(newer).status_code) == (401, 200)


def test_a_file_of_another_region_is_refused(open_shop):
    shop = open_shop(right_url="https://us1.api.voucherify.io")

    refused = shop.http.get("/v1/exports/exp_1?token=t")

    assert (refused.status_code, refused.json()["key"]) == (403, "wrong_api_endpoint")


def test_tokens_of_files_are_not_kept(shop):
    url = url_of(shop, create(shop, "customer"))
    shop.http.get(url)

    assert shop.server.received[-1].query == "token=***"
    assert url.partition("token=")[2] not in str(shop.server.received)


def test_a_download_is_no_api_call(open_shop):
    shop = open_shop(api_calls=(2, 60))
    url = url_of(shop, create(shop, "customer"))

    assert shop.http.get(url).status_code == 200
    assert shop.http.get("/v1/exports").status_code == 429


# The file: what is in it


CUSTOMER = {
    "source_id": "c1",
    "name": 'Ann "A", of\r\nOslo',
    "email": "ann@example.com",
    "birthdate": "1990-01-02",
    "address": {"city": "Oslo", "country": None},
    "metadata": {
        "vip": True,
        "score": 2.5,
        "visits": 7,
        "tags": ["a", "b"],
        "car": {"hp": 9},
        "none": None,
        "no": False,
    },
}


def test_values_are_written_one_way(open_shop, clock):
    shop = open_shop(clock=clock)
    customers(shop, CUSTOMER)
    names = [
        *("id", "source_id", "name", "phone", "birthday", "address_city", "address_country", "created_at"),
        *("redemptions_total_succeeded", "orders_last_order_date", "loyalty_points"),
        *(f"metadata.{name}" for name in ("vip", "no", "score", "visits", "tags", "car", "none", "absent")),
    ]

    header, row = lines(shop, "customer", fields=names)

    assert header == names
    assert dict(zip(names, row, strict=True)) == {
        "id": shop.server.customers["c1"]["id"],
        "source_id": "c1",
        "name": 'Ann "A", of\r\nOslo',
        "phone": "",
        "birthday": "1990-01-02",
        "address_city": "Oslo",
        "address_country": "",
        "created_at": "2027-01-15T08:00:00.000Z",
        "redemptions_total_succeeded": "0",
        "orders_last_order_date": "",
        "loyalty_points": "0",
        "metadata.vip": "true",
        "metadata.no": "false",
        "metadata.score": "2.5",
        "metadata.visits": "7",
        "metadata.tags": "a,b",
        "metadata.car": '{"hp":9}',
        "metadata.none": "",
        "metadata.absent": "",
    }


def test_lists_can_be_json(open_shop):
    shop = open_shop(export_lists="json")
    customers(shop, CUSTOMER)

    assert column(shop, "customer", "metadata.tags") == ['["a","b"]']
    assert column(shop, "customer", "metadata.car") == ['{"hp":9}']


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["id", "source_id", "redemptions_total_failed"], ["ID", "Source ID", "Redemptions Total Failed"]),
        (["address_line_1", "metadata.vip"], ["Address Line 1", "metadata.vip"]),
    ],
)
def test_the_header_can_have_titles(open_shop, names, titles):
    customers(shop := open_shop(export_header="titles"), CUSTOMER)

    assert lines(shop, "customer", fields=names)[0] == titles


def test_metadata_is_a_column_for_each_property_that_any_object_has(shop):
    customers(
        shop, {"source_id": "c1", "metadata": {"b": 1}}, {"source_id": "c2"}, {"source_id": "c3", "metadata": {"a": 2}}
    )

    assert lines(shop, "customer", fields=["source_id", "metadata"]) == [
        ["source_id", "metadata.a", "metadata.b"],
        ["c1", "", "1"],
        ["c2", "", ""],
        ["c3", "2", ""],
    ]


def test_or_for_each_of_the_schema(open_shop):
    schema = {"customers": {"properties": {"b": {"type": "number"}, "c": {"type": "string"}}}}
    shop = open_shop(export_metadata_columns="schema", metadata_schemas=schema)
    customers(shop, {"source_id": "c1", "metadata": {"a": 1, "b": 2}})

    assert lines(shop, "customer", fields=["metadata"]) == [["metadata.b", "metadata.c"], ["2", ""]]


def test_or_one_column_of_json(open_shop):
    shop = open_shop(export_metadata_columns="one")
    customers(shop, {"source_id": "c1", "metadata": {"a": [1, None]}})

    assert lines(shop, "customer", fields=["metadata"]) == [["metadata"], ['{"a":[1,null]}']]


def test_properties_can_be_named_without_a_prefix(open_shop):
    shop = open_shop(export_metadata_names="bare")
    customers(shop, {"source_id": "c1", "name": "Ann", "metadata": {"name": "Other"}})

    assert lines(shop, "customer", fields=["name", "metadata"]) == [["name", "name"], ["Ann", "Other"]]
    assert lines(shop, "customer", fields=["metadata.name"]) == [["name"], ["Other"]]


@pytest.mark.parametrize("reading", ["blank", "created_at"])
def test_a_customer_that_was_never_updated(open_shop, clock, reading):
    shop = open_shop(export_updated_at=reading, clock=clock)
    customers(shop, {"source_id": "old"})
    clock.turn(10)
    customers(shop, {"source_id": "new"}, {"source_id": "changed"})
    shop.http.put("/v1/customers/changed", json={"name": "x"})
    created, later = "2027-01-15T08:00:00.000Z", "2027-01-15T08:00:10.000Z"

    everyone = column(shop, "customer", "updated_at")
    since = column(shop, "customer", "source_id", filters=conditions(updated_at={"after": ["2027-01-15T08:00:05Z"]}))
    in_order = column(shop, "customer", "source_id", order="updated_at")

    assert everyone == {"blank": ["", "", later], "created_at": [created, later, later]}[reading]
    assert since == {"blank": ["changed"], "created_at": ["new", "changed"]}[reading]
    assert in_order == ["old", "new", "changed"]


def test_vouchers_have_their_kinds_of_value(shop):
    customers(shop, {"source_id": "c1"})
    holder = shop.server.customers["c1"]["id"]
    shop.server.add_voucher("G", type="GIFT_VOUCHER", gift={"amount": 900, "balance": 400}, discount=None)
    shop.server.add_voucher("L", type="LOYALTY_CARD", loyalty_card={"points": 9, "balance": 5}, discount=None)
    shop.server.add_voucher("D", holder_id=holder, validity_day_of_week=[1, 2], metadata={"a": 1})
    names = ["code", "voucher_type", "value", "discount_type", "gift_balance", "loyalty_balance", "active"]
    names += [
        "customer_source_id",
        "validity_day_of_week",
        "updated_at",
        "metadata.a",
        "validation_rules_id",
        "formula",
    ]

    _, gift, card, discount = lines(shop, "voucher", fields=names)

    assert gift[:7] == ["G", "GIFT_VOUCHER", "400", "", "400", "", "true"]
    assert card[:7] == ["L", "LOYALTY_CARD", "5", "", "", "5", "true"]
    assert discount == ["D", "DISCOUNT_VOUCHER", "10", "PERCENT", "", "", "true", "c1", "1,2", "", "1", "", ""]


def test_products_and_skus(shop):
    shop.http.post("/v1/products", json={"source_id": "p1", "name": "Shirt", "price": 4500, "attributes": ["a", "b"]})
    shop.http.post("/v1/skus/importCSV", files={"file": ("x", b"product_id,source_id,sku,price\np1,s1,XS,1.5\n")})
    product_id = shop.server.products["p1"]["id"]

    product, sku = lines(shop, "product"), lines(shop, "sku")

    assert product[0] == ["id", "name", "price", "image_url", "source_id", "attributes", "created_at"]
    assert product[1][:-1] == [product_id, "Shirt", "4500", "", "p1", "a,b"]
    assert sku[0] == [
        "id",
        "sku",
        "product_id",
        "currency",
        "price",
        "image_url",
        "source_id",
        "attributes",
        "created_at",
    ]
    assert sku[1][1:-1] == ["XS", product_id, "", "150", "", "s1", "{}"]


@pytest.mark.parametrize("name", sorted(EXPORTED_OBJECTS.keys() - {kind.name for kind in OBJECT_KINDS.values()}))
def test_other_objects_are_those_that_were_added(shop, name):
    exported = EXPORTED_OBJECTS[name]
    row = {field: f"some {field}" for field in exported.fields if field != "metadata"}
    shop.server.add_exported(name, {**row, "metadata": {"a": 1}})
    fields = [field for field in exported.fields if field != "metadata"]

    assert lines(shop, name)[0] == list(exported.default_fields)
    assert lines(shop, name, fields=fields)[1] == [f"some {field}" for field in fields]
    if "metadata" in exported.fields:
        assert lines(shop, name, fields=["metadata"]) == [["metadata.a"], ["1"]]


def test_nothing_else_can_be_added(shop):
    with pytest.raises(ValueError, match=r"must be one of .*, not 'customer'"):
        shop.server.add_exported("customer", {})


# Filters and order


def test_orders(open_shop, clock):
    shop = open_shop(clock=clock)
    for source_id, name in (("b", "Bo"), ("a", "Cy"), ("c", "Al")):
        customers(shop, {"source_id": source_id, "name": name})
        clock.turn(1)

    def ordered(order):
        return "".join(column(shop, "customer", "source_id", order=order))

    assert ordered("created_at") == ordered("") == "bac"
    assert ordered("-created_at") == "cab"
    assert (ordered("source_id"), ordered("-source_id"), ordered("name")) == ("abc", "cba", "cba")


@pytest.mark.parametrize(("bounds", "found"), [("exclusive", ["1"]), ("inclusive", ["0", "1", "2"])])
def test_bounds_of_dates(open_shop, clock, bounds, found):
    shop = open_shop(export_bounds=bounds, clock=clock)
    for number in range(4):
        customers(shop, {"source_id": str(number)})
        clock.turn(1)
    between = conditions(created_at={"after": ["2027-01-15T08:00:00.000Z"], "before": ["2027-01-15T09:00:02+01:00"]})

    assert column(shop, "customer", "source_id", filters=between) == found


PEOPLE = [
    {"source_id": "c1", "name": "Ann", "email": "ann@a.example", "address": {"city": "Oslo"}},
    {"source_id": "c2", "name": "Bo", "metadata": {"score": 5, "tags": ["x", "y"], "vip": True}},
    {"source_id": "c3", "name": "Anna", "metadata": {"score": 7.5, "tags": ["z"], "since": "2024-05-01"}},
]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, "c1 c2 c3"),
        (conditions(name={"is": ["Ann"]}), "c1"),
        (conditions(name={"is_not": ["Ann"]}), "c2 c3"),
        (conditions(name={"in": ["Ann", "Bo"]}), "c1 c2"),
        (conditions(name={"not_in": ["Ann", "Bo"]}), "c3"),
        (conditions(email={"has_value": []}), "c1"),
        (conditions(email={"is_unknown": []}), "c2 c3"),
        (conditions(name={"contains": ["nn"]}), "c1 c3"),
        (conditions(name={"not_contain": ["nn"]}), "c2"),
        (conditions(name={"starts_with": ["An"], "ends_with": ["a"]}), "c3"),
        (conditions(city={"is": ["Oslo"]}), "c1"),
        (conditions(**{"address.city": {"is": ["Oslo"]}}), "c1"),
        (conditions(**{"metadata.score": {"more_than": [5]}}), "c3"),
        (conditions(**{"metadata.score": {"more_than_equal": [5], "less_than": [7]}}), "c2"),
        (conditions(**{"metadata.score": {"less_than_equal": [7.5]}}), "c2 c3"),
        (conditions(**{"metadata.score": {"is": [5]}}), "c2"),
        (conditions(**{"metadata.tags": {"is": ["y"]}}), "c2"),
        (conditions(**{"metadata.vip": {"is": ["true"]}}), "c2"),
        (conditions(**{"metadata.since": {"before": ["2024-05-01T00:00:01Z"]}}), "c3"),
        (conditions(**{"loyalty.points": {"is": [0]}}), "c1 c2 c3"),
        (conditions(name={"is": ["Bo"]}, email={"has_value": []}), ""),
        ({"junction": "and", **conditions(name={"starts_with": ["A"]}, email={"is_unknown": []})}, "c3"),
        ({"junction": "or", **conditions(name={"is": ["Bo"]}, email={"has_value": []})}, "c1 c2"),
    ],
    ids=json.dumps,
)
def test_filters(shop, filters, found):
    customers(shop, *PEOPLE)

    assert " ".join(column(shop, "customer", "source_id", filters=filters)) == found


def test_vouchers_of_a_campaign_and_by_category(shop):
    shop.server.add_voucher("A", campaign_id="camp_1", categories=["x"])
    shop.server.add_voucher("B", campaign_id="camp_1", categories=["y"])
    shop.server.add_voucher("C", campaign_id="camp_2", categories=["x"])

    assert column(shop, "voucher", "code", campaign_id="camp_1") == ["A", "B"]
    assert column(shop, "voucher", "code", filters=conditions(categories={"in": ["x"]})) == ["A", "C"]
    assert column(shop, "voucher", "code", campaign_id="camp_1", filters=conditions(categories={"is": ["x"]})) == ["A"]


# What is refused


@pytest.mark.parametrize(
    ("payload", "key", "said"),
    [
        ({}, "invalid_payload", ".exported_object should be equal"),
        ({"exported_object": "customers"}, "invalid_payload", ".exported_object should be equal"),
        ({"exported_object": "customer", "name": "x"}, "invalid_payload", ".name is not allowed"),
        ({"exported_object": "customer", "parameters": 1}, "invalid_payload", ".parameters is of the wrong type"),
        ({"parameters": {"fields": ["nmae"]}}, "invalid_export_fields", "Allowed fields: address_city, "),
        ({"parameters": {"fields": [7]}}, "invalid_export_fields", "Allowed fields: "),
        ({"parameters": {"fields": ["metadata."]}}, "invalid_export_fields", "Allowed fields: "),
        ({"parameters": {"fields": "name"}}, "invalid_payload", ".fields is of the wrong type"),
        ({"parameters": {"order": "phone"}}, "invalid_payload", ".order should be equal"),
        ({"parameters": {"campaign_id": "c"}}, "invalid_payload", ".campaign_id is not allowed"),
        ({"parameters": {"filters": {"junction": "xor"}}}, "invalid_payload", ".junction should be equal"),
        ({"parameters": {"filters": {"nmae": {"conditions": {}}}}}, "invalid_payload", ".nmae is not allowed"),
        ({"parameters": {"filters": {"metadata.": {"conditions": {}}}}}, "invalid_payload", "is not allowed"),
        ({"parameters": {"filters": {"name": "Ann"}}}, "invalid_payload", ".name.conditions should be an object"),
        (
            {"parameters": {"filters": conditions(name={"is": "Ann"})}},
            "invalid_payload",
            ".name.conditions.$is should be an array",
        ),
        (
            {"parameters": {"filters": conditions(name={"count": [1]})}},
            "invalid_payload",
            "does not know the condition $count of name",
        ),
    ],
    ids=json.dumps,
)
def test_a_wrong_export_is_refused(shop, payload, key, said):
    payload = payload if "exported_object" in payload or not payload else {"exported_object": "customer", **payload}

    refused = shop.http.post("/v1/exports", json=payload)

    assert (refused.status_code, refused.json()["key"]) == (400, key)
    assert said in refused.json()["details"]
    assert_fits_answer("POST", "/v1/exports", 400, refused.json())
    assert shop.http.get("/v1/exports").json()["total"] == 0


# Held against the contract and the client


@pytest.mark.parametrize("name", EXPORTED_OBJECTS)
def test_exports_fit_the_contract(open_shop, clock, name):
    shop = open_shop(export_seconds=10, clock=clock)
    order, fields = EXPORTED_OBJECTS[name].orders[0], EXPORTED_OBJECTS[name].fields[:2]
    asked = {"exported_object": name, "parameters": {"order": order, "fields": list(fields)}}
    created = shop.http.post("/v1/exports", json=asked).json()
    assert_fits_answer("POST", "/v1/exports", 200, created)
    for seconds in (0, 5, 5):
        clock.turn(seconds)
        assert_fits_answer("GET", "/v1/exports/{exportId}", 200, look(shop, created["id"]))
        assert_fits_answer("GET", "/v1/exports", 200, shop.http.get("/v1/exports").json())
    assert_fits_answer("GET", "/v1/exports/{exportId}", 404, shop.http.get("/v1/exports/exp_x").json())
    assert_fits_answer("DELETE", "/v1/exports/{exportId}", 404, shop.http.delete("/v1/exports/exp_x").json())


def test_the_client_s_table_of_objects_has_the_same_facts():
    assert OF_THE_CLIENT.keys() == EXPORTED_OBJECTS.keys()
    for name, ours in OF_THE_CLIENT.items():
        theirs = EXPORTED_OBJECTS[name]
        assert sorted(ours.fields) == sorted(theirs.fields)
        assert ours.default_fields == theirs.default_fields
        assert {sign + order for order in ours.orders for sign in ("", "-")} == set(theirs.orders)
        assert ours.knows("metadata.x") is theirs.has_field("metadata.x") is ("metadata" in ours.fields)


# Large ones


@pytest.mark.parametrize("order", [None, "-created_at"])
def test_memory_does_not_grow_with_the_file(order):
    with LocalVoucherify(exports_need_auth=False) as server:
        records = [{"source_id": f"c{n}", "name": f"Name {n}", "metadata": {"a": n, "b": "x"}} for n in range(40_000)]
        keys = {"X-App-Id": server.options.app_id, "X-App-Token": server.options.secret_key}
        with httpx.Client(base_url=server.base_url, headers=keys, timeout=60) as http:
            http.post("/v1/customers/bulk/async", json=records)
            assert len(server.customers) == 40_000
            del records
            asked = {"fields": ["source_id", "name", "metadata", "updated_at"], **({"order": order} if order else {})}
            export = http.post("/v1/exports", json={"exported_object": "customer", "parameters": asked}).json()
            url = http.get(f"/v1/exports/{export['id']}").json()["result"]["url"]
            tracemalloc.start()
            try:
                with http.stream("GET", url) as answer:
                    size = rows = 0
                    for piece in answer.iter_raw():
                        size, rows = size + len(piece), rows + piece.count(b"\n")
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert rows == 40_001
    assert size > 1_000_000
    assert peak < 4_000_000
