"""Stories about records that fail while the rest of their request goes through."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("resource", "record", "details"),
    [
        ("customers", {"name": "Jane"}, "Payload should have required property 'source_id'"),
        ("vouchers", {"code": "A"}, "Payload should have required property 'metadata'"),
        ("customers", "c1", "Payload should be an object"),
        ("customers", {"source_id": 7}, "Property .source_id must be a string"),
        ("customers", {"source_id": "c1", "name": None}, "Property .name must be a string"),
        ("customers", {"source_id": "c1", "metadata": None}, "Property .metadata must be an object"),
        ("customers", {"source_id": "c1", "address": {"city": 1}}, "Property .address.city must be a string"),
        (
            "customers",
            {"source_id": "c1", "birthdate": "31.01.1990"},
            "Property .birthdate must be a date in the format YYYY-MM-DD",
        ),
        (
            "customers",
            {"source_id": "c1", "birthdate": "1990-02-30"},
            "Property .birthdate must be a date in the format YYYY-MM-DD",
        ),
        ("products", {"source_id": "p1", "price": 9.99}, "Property .price must be an integer"),
        ("products", {"source_id": "p1", "price": True}, "Property .price must be an integer"),
        ("products", {"source_id": "p1", "attributes": ["a", 1]}, "Property .attributes must be an array of strings"),
    ],
)
def test_a_record_of_the_wrong_shape_fails_in_the_action(shop, resource, record, details):
    action = shop.update(resource, [record])

    assert (action["status"], action["operation_status"]) == ("DONE", "FAILED")
    assert (action["result"]["done_count"], action["result"]["failed_count"]) == (0, 1)
    assert action["result"]["errors"][0]["key"] == "invalid_payload"
    assert action["result"]["errors"][0]["details"] == details


def test_the_other_records_are_stored(shop):
    action = shop.update("customers", [{"source_id": "bad", "name": 1}, {"source_id": "good", "name": "Jane"}])

    assert action["operation_status"] == "SUCCESS"
    assert action["result"]["errors"][0]["source_id"] == "bad"
    assert list(shop.server.customers) == ["good"]
    report = shop.http.get(action["result"]["reports"][0]).text
    assert report == "source_id,found,updated\r\nbad,false,false\r\ngood,false,true\r\n"


def test_a_number_that_no_type_can_hold_fails_its_record_alone(shop):
    body = b'[{"source_id": "c1", "metadata": {"n": 1e999}}, {"source_id": "c2"}]'
    answer = shop.http.post("/v1/customers/bulk/async", content=body, headers={"Content-Type": "application/json"})

    result = shop.poll(answer.json()["async_action_id"])["result"]
    assert (result["done_count"], result["failed_count"]) == (1, 1)


def test_errors_of_a_metadata_update_do_not_name_the_record(shop):
    action = shop.poll(shop.submit_metadata("customers", ["c1", 7], {"a": 1}))

    assert action["result"]["errors"] == [
        {"message": "Invalid payload", "details": "Property .source_id must be a string", "key": "invalid_payload"}
    ]


def test_unknown_fields_are_skipped_by_default(shop):
    action = shop.update("customers", [{"source_id": "c1", "favourite": "tea"}])

    assert action["result"]["failed_count"] == 0
    assert "favourite" not in shop.server.customers["c1"]


def test_unknown_fields_fail_the_record_where_the_option_says_so(open_shop):
    action = open_shop(reject_unknown_fields=True).update("customers", [{"source_id": "c1", "favourite": "tea"}])

    assert action["result"]["errors"][0]["details"] == "Property .favourite is not allowed"


CHANNEL = {"type": "string", "array": False, "optional": False, "eq": ["Facebook", "Twitter", "Website"]}
LOCATIONS = {"type": "string", "array": True, "optional": True, "eq": ["L1", "L2", "L3"]}


def _violation(open_shop, definition, value, **schema):
    schemas = {"customers": {"properties": {"key": definition}, **schema}}
    action = open_shop(metadata_schemas=schemas).update("customers", [{"source_id": "c1", "metadata": {"key": value}}])
    errors = action["result"]["errors"]
    assert all(error["key"] == "metadata_validation_failed" for error in errors)
    return errors[0]["details"] if errors else None


@pytest.mark.parametrize(
    ("definition", "value", "details"),
    [
        (
            CHANNEL,
            "snap",
            "key: must be a string, property is required, must be equal to one of Facebook,Twitter,Website "
            "(actual value is 'snap')",
        ),
        (
            LOCATIONS,
            "L1",
            "key: must be an array, and every element: must be a string, must be equal to one of L1,L2,L3 "
            "(actual value is 'L1')",
        ),
        (
            {"type": "number", "optional": False},
            "EUR",
            "key: must be a number, property is required (actual value is 'EUR')",
        ),
        (
            {"type": "image_url"},
            "http.com",
            "key: must be a URL pointing to JPG/JPEG or PNG resource (actual value is 'http.com')",
        ),
        ({"type": "boolean"}, "true", "key: must be a boolean (actual value is 'true')"),
        (
            {"type": "number", "gte": 1, "lt": 5},
            5,
            "key: must be a number, must be less than 5, must be greater than or equal to 1 (actual value is '5')",
        ),
        (
            {"type": "string", "exact_length": 2},
            "abc",
            "key: must be a string, must have a length of 2 (actual value is 'abc')",
        ),
        ({"type": "date"}, "today", "key: must be an ISO-8601 date (actual value is 'today')"),
        ({"type": "datetime"}, "today", "key: must be an ISO-8601 date time (actual value is 'today')"),
        ({"type": "geopoint"}, "north", "key: must be a geopoint (actual value is 'north')"),
        ({"type": "object"}, [1], "key: must be an object (actual value is '[1]')"),
    ],
)
def test_metadata_that_breaks_its_schema_fails_in_the_vendors_words(open_shop, definition, value, details):
    assert _violation(open_shop, definition, value) == details


@pytest.mark.parametrize(
    ("definition", "value"),
    [
        (CHANNEL, "Twitter"),
        (LOCATIONS, ["L1", "L3"]),
        ({"type": "number", "gte": 1, "lt": 5}, 4.5),
        ({"type": "date"}, "2020-03-11"),
        ({"type": "datetime"}, "2020-03-11T09:00:00.000Z"),
        ({"type": "image_url"}, "https://images.com/original.jpg"),
        ({"type": "geopoint"}, "37.786971, -122.399677"),
        ({"type": "string", "deleted": True}, 7),
        ({"type": "a type of the future"}, 7),
        ({"type": "boolean", "maxLength": 1, "lt": 0}, True),
        ({"type": "string", "optional": True}, None),
    ],
)
def test_metadata_that_fits_its_schema_passes(open_shop, definition, value):
    assert _violation(open_shop, definition, value) is None


def test_undefined_keys_pass_unless_only_defined_ones_are_allowed(open_shop):
    record = [{"source_id": "c1", "metadata": {"other": 1}}]
    free = {"customers": {"properties": {}}}
    closed = {"customers": {"properties": {}, "allow_defined_only": True}}

    assert open_shop(metadata_schemas=free).update("customers", record)["result"]["failed_count"] == 0
    assert open_shop(metadata_schemas=closed).update("customers", record)["result"]["failed_count"] == 1


def test_a_required_key_is_demanded_only_when_the_record_is_created(open_shop):
    shop = open_shop(metadata_schemas={"customers": {"properties": {"channel": CHANNEL}}})
    created_without = shop.update("customers", [{"source_id": "c1", "name": "Jane"}])
    shop.update("customers", [{"source_id": "c1", "metadata": {"channel": "Website"}}])
    updated_without = shop.update("customers", [{"source_id": "c1", "name": "Jane"}])

    assert "actual value is 'undefined'" in created_without["result"]["errors"][0]["details"]
    assert updated_without["result"]["failed_count"] == 0


def test_a_nested_object_follows_the_custom_schema_that_it_names(open_shop):
    schemas = {
        "customers": {"properties": {"home": {"type": "object", "objectType": "place"}}},
        "place": {"properties": {"floor": {"type": "number", "optional": False}}},
    }
    shop = open_shop(metadata_schemas=schemas)
    action = shop.update("customers", [{"source_id": "c1", "metadata": {"home": {"floor": "3rd"}}}])

    details = action["result"]["errors"][0]["details"]
    assert details == "home.floor: must be a number, property is required (actual value is '3rd')"


def test_a_schema_can_be_changed_while_the_server_runs(shop):
    record = [{"source_id": "c1", "metadata": {"level": "high"}}]
    before = shop.update("customers", record)
    shop.server.set_metadata_schema("customers", {"properties": {"level": {"type": "number"}}})
    after = shop.update("customers", record)

    assert (before["result"]["failed_count"], after["result"]["failed_count"]) == (0, 1)
    assert list(shop.http.get("/v1/metadata-schemas/customer").json()["properties"]) == ["level"]


def test_a_deleted_definition_is_shown_as_such(open_shop):
    schema = {"properties": {"old": {"type": "string", "deleted": True}}}
    shop = open_shop(metadata_schemas={"customers": schema})

    assert shop.http.get("/v1/metadata-schemas/customer").json()["properties"]["old"]["deleted"] is True


def test_the_schemas_can_be_read(open_shop):
    shop = open_shop(metadata_schemas={"customers": {"properties": {"channel": CHANNEL}}})

    schema = shop.http.get("/v1/metadata-schemas/customer").json()
    assert schema["properties"] == {"channel": {**CHANNEL, "objectType": None}}
    assert shop.http.get("/v1/metadata-schemas").json()["schemas"] == [schema]
    assert shop.http.get("/v1/metadata-schemas/voucher").json()["resource_type"] == "metadata schema"
