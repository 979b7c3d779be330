"""Stories about CSV imports: what rows become, and how those that cannot be imported are told."""

from __future__ import annotations

import pytest


@pytest.fixture
def import_csv(shop):
    return importer(shop)


def importer(shop):
    def send(resource, *lines):
        content = "\n".join(lines).encode()
        answer = shop.http.post(f"/v1/{resource}/importCSV", files={"file": ("x.csv", content, "text/csv")})
        assert answer.status_code in (200, 202), answer.text
        return shop.poll(answer.json()["async_action_id"])

    return send


def test_columns_become_fields_and_the_rest_metadata(shop, import_csv):
    action = import_csv(
        "customers",
        "Source_id,Name,Email,Birthdate,Address_City,Address_Postal_Code,Description,segment",
        "c1,Ann,ann@x,1990-01-02,Oslo,0150,Regular,vip",
    )

    assert (action["type"], action["status"], action["operation_status"]) == ("CUSTOMERS.IMPORT_CSV", "DONE", "SUCCESS")
    ann = shop.server.customers["c1"]
    assert (ann["name"], ann["birthdate"], ann["birthday"]) == ("Ann", "1990-01-02", "1990-01-02")
    assert ann["address"] == {"city": "Oslo", "postal_code": "0150"}
    assert ann["metadata"] == {"segment": "vip"}


def test_a_customer_that_exists_is_overwritten_whole(shop, import_csv):
    shop.update("customers", [{"source_id": "c1", "name": "Ann", "phone": "1", "metadata": {"a": 1}}])

    import_csv("customers", "Source_id,Name", "c1,Anna")

    anna = shop.server.customers["c1"]
    assert (anna["name"], "metadata" in anna, "phone" in anna) == ("Anna", False, False)


def test_a_customer_is_also_found_by_its_id(shop, import_csv):
    shop.update("customers", [{"source_id": "c1"}])

    import_csv("customers", "Id,Name", f"{shop.server.customers['c1']['id']},Anna")

    assert (shop.server.customers["c1"]["name"], len(shop.server.customers)) == ("Anna", 1)


def test_a_customer_without_any_id_is_created_each_time(shop, import_csv):
    import_csv("customers", "Name", "Ann")
    import_csv("customers", "Name", "Ann")

    assert len(shop.server.customers) == 2


def test_of_a_product_that_exists_only_the_name_changes(shop, import_csv):
    import_csv("products", "name,source_id,price,attributes,brand", 'Shirt,p1,21,"size,color",Acme')
    import_csv("products", "name,source_id,price", "Polo,p1,99")

    shirt = shop.server.products["p1"]
    assert (shirt["name"], shirt["price"], shirt["attributes"]) == ("Polo", 2100, ["size", "color"])
    assert shirt["metadata"] == {"brand": "Acme"}


def test_skus_belong_to_products_that_exist(shop, import_csv):
    import_csv("products", "name,source_id", "Shirt,p1")

    action = import_csv(
        "skus",
        "product_id,sku,source_id,price,attributes",
        "p1,Blue,s1,14.5,{'color':'blue'}",
        "p2,Red,s2,1,",
        "p1,Green,,1,",
    )

    blue = shop.server.skus["s1"]
    assert (blue["product_id"], blue["price"]) == (shop.server.products["p1"]["id"], 1450)
    assert blue["attributes"] == {"color": "blue"}
    assert action["result"]["failed"] == [
        {"row": 2, "reason": "Cannot find product with id p2"},
        {"row": 3, "reason": "source_id is required"},
    ]


@pytest.mark.parametrize("attributes", ["{'shape':'round'}", '{"shape":"l\'éclair"}'], ids=["template", "JSON"])
def test_attributes_of_a_sku_are_json_with_either_quotes(shop, import_csv, attributes):
    import_csv("products", "name,source_id", "Shirt,p1")
    quoted = attributes.replace('"', '""')

    action = import_csv("skus", "product_id,source_id,attributes", f'p1,s1,"{quoted}"')

    assert action["result"]["failed_count"] == 0
    assert shop.server.skus["s1"]["attributes"]["shape"] in ("round", "l'éclair")


def test_failed_rows_are_told_with_their_numbers_and_reasons(open_shop):
    schema = {"properties": {"tier": {"type": "string", "eq": ["gold"]}, "age": {"type": "number"}}}
    shop = open_shop(metadata_schemas={"customers": schema})

    action = importer(shop)("customers", "Source_id,tier,age", "c1,tin,", "c2,gold,7", ",gold,old", "c4,gold")

    result = action["result"]
    assert (result["done_count"], result["failed_count"]) == (1, 3)
    assert result["message"] == "1 customer(s) imported successfully, 3 failed."
    assert result["failed"] == [
        {
            "source_id": "c1",
            "row": 1,
            "reason": "tier: must be a string, must be equal to one of gold (actual value is 'tin')",
        },
        {"source_id": "", "row": 3, "reason": "age: must be a number (actual value is 'old')"},
        {"source_id": "", "row": 4, "reason": "Invalid number of columns"},
    ]
    assert shop.server.customers["c2"]["metadata"] == {"tier": "gold", "age": 7}


def test_a_product_without_a_name_fails(import_csv):
    action = import_csv("products", "name,source_id,price", ",p1,1", "Shirt,p2,dear")

    assert action["operation_status"] == "FAILED"
    assert action["result"]["failed"] == [
        {"row": 1, "source_id": "p1", "reason": "name is required"},
        {"row": 2, "source_id": "p2", "reason": "price: must be a number (actual value is 'dear')"},
    ]


def test_quoted_line_breaks_and_a_byte_order_mark_are_read(shop, import_csv):
    import_csv("customers", '\ufeffSource_id,Name\r\nc1,"Ann\r\nLee"\r\n\r\n')

    assert shop.server.customers["c1"]["name"] == "Ann\r\nLee"


@pytest.mark.parametrize(
    "request_of",
    [
        {"content": b"Source_id\nc1\n", "headers": {"Content-Type": "text/csv"}},
        {"files": {"data": ("x.csv", b"Source_id\nc1\n")}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {},
    ],
    ids=str,
)
def test_a_form_without_the_file_is_refused(shop, request_of):
    answer = shop.http.post("/v1/products/importCSV", **request_of)

    assert (answer.status_code, answer.json()["key"]) == (400, "invalid_payload")
    assert answer.json()["details"] == "Payload should have required property 'file'"


def test_imports_wait_in_the_same_queue(open_shop, clock):
    shop = open_shop(clock=clock, action_seconds=10)
    shop.submit("customers", [{"source_id": "c0"}])
    answer = shop.http.post("/v1/customers/importCSV", files={"file": ("x.csv", b"Source_id\nc1\n")})
    action_id = answer.json()["async_action_id"]

    assert shop.poll(action_id)["status"] == "ENQUEUED"
    clock.turn(15)
    assert shop.poll(action_id)["status"] == "IN_PROGRESS"
    assert "c1" not in shop.server.customers
    clock.turn(10)
    assert shop.poll(action_id)["status"] == "DONE"
    assert "c1" in shop.server.customers


def test_an_import_follows_a_script(shop, import_csv):
    shop.server.next_actions(status="FAILED")

    assert "result" not in import_csv("customers", "Source_id", "c1")
    assert len(shop.server.customers) == 0
