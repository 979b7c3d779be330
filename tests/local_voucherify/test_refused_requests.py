"""Stories about requests that are refused as a whole."""

from __future__ import annotations

import pytest

CUSTOMERS = "/v1/customers/bulk/async"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "body", "key", "details"),
    [
        (CUSTOMERS, b"[nope", "invalid_payload", "Payload is not valid JSON"),
        (CUSTOMERS, b"", "invalid_payload", "Payload is not valid JSON"),
        (CUSTOMERS, b'[{"source_id": "\xff"}]', "invalid_payload", "Payload is not valid JSON"),
        (CUSTOMERS, b'{"source_id": "c1"}', "invalid_payload", "Payload should be an array"),
        ("/v1/customers/metadata/async", b"[]", "invalid_payload", "Payload should be an object"),
        (
            "/v1/customers/metadata/async",
            b'{"metadata": {}}',
            "invalid_payload",
            "Payload should have required property 'source_ids'",
        ),
        (
            "/v1/vouchers/metadata/async",
            b'{"codes": ["A"]}',
            "invalid_payload",
            "Payload should have required property 'metadata'",
        ),
        (
            "/v1/vouchers/metadata/async",
            b'{"codes": "A", "metadata": {}}',
            "invalid_payload",
            "Property .codes must be an array",
        ),
        (
            "/v1/vouchers/metadata/async",
            b'{"codes": ["A"], "metadata": []}',
            "invalid_payload",
            "Property .metadata must be an object",
        ),
        (
            "/v1/customers/metadata/async",
            b'{"source_ids": [], "metadata": {}}',
            "not_enough_source_ids",
            "Specify at least 1 source_id",
        ),
        (
            "/v1/products/metadata/async",
            b'{"source_ids": [], "metadata": {}}',
            "not_enough_source_ids",
            "Specify at least 1 ID in source_ids.",
        ),
        (
            "/v1/vouchers/metadata/async",
            b'{"codes": [], "metadata": {}}',
            "not_enough_codes",
            "Specify at least 1 code in codes.",
        ),
    ],
)
def test_a_body_that_the_endpoint_does_not_take_gives_a_400(shop, path, body, key, details):
    answer = shop.http.post(path, content=body, headers=JSON)

    assert answer.status_code == 400
    assert (answer.json()["key"], answer.json()["details"]) == (key, details)
    assert shop.server.actions == {}


def test_a_body_above_the_limit_gives_the_413_of_the_gateway(open_shop):
    shop = open_shop(max_body_bytes=100)
    answer = shop.http.post(CUSTOMERS, content=b"[" + b" " * 99 + b"]", headers=JSON)

    assert answer.status_code == 413
    assert answer.json() == {
        "statusCode": 413,
        "error": "Request Entity Too Large",
        "message": "Payload content length greater than maximum allowed: 100",
    }
    assert shop.server.received[-1].body_bytes_length == 101


def test_a_body_of_exactly_the_limit_is_accepted(open_shop):
    shop = open_shop(max_body_bytes=100)

    assert shop.http.post(CUSTOMERS, content=b"[" + b" " * 98 + b"]", headers=JSON).status_code == 202


def test_a_body_of_unannounced_length_is_measured_while_it_comes(open_shop):
    shop = open_shop(max_body_bytes=100_000)
    answer = shop.http.post(CUSTOMERS, content=(b" " * 10_000 for _ in range(30)), headers=JSON)

    assert answer.status_code == 413
    assert shop.http.get("/v1/async-actions").status_code == 200, "the connection goes on to work"


def test_a_large_body_passes(shop):
    records = [{"source_id": f"c{number}", "description": "x" * 200} for number in range(40_000)]

    assert shop.update("customers", records)["result"]["done_count"] == 40_000


def test_another_content_type_gives_a_415(shop):
    assert shop.http.post(CUSTOMERS, content=b"[]", headers={"Content-Type": "text/csv"}).status_code == 415


def test_an_unknown_path_gives_a_404_and_a_wrong_method_a_405(shop):
    unknown, wrong = shop.http.get("/v1/campaigns"), shop.http.put(CUSTOMERS, json=[])

    assert (unknown.status_code, unknown.json()["code"]) == (404, 404)
    assert (wrong.status_code, wrong.json()["code"]) == (405, 405)
