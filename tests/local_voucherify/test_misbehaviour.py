"""Stories about the faults that the local Voucherify can be told to have."""

from __future__ import annotations

import time

import httpx
import pytest

from airflow_provider_voucherify.local_voucherify import (
    Delay,
    DropAfter,
    DropBefore,
    Malformed,
    RateLimited,
    SlowDrip,
    Status,
    Truncate,
)

CUSTOMERS = "/v1/customers/bulk/async"


def test_a_connection_can_drop_before_the_request_is_processed(shop):
    shop.server.misbehave("submit", DropBefore())
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        shop.http.post(CUSTOMERS, json=[{"source_id": "c1"}])

    assert shop.server.actions == {}
    assert [request.status for request in shop.server.requests("POST", CUSTOMERS)] == [None]
    assert shop.update("customers", [])["status"] == "DONE"


def test_a_connection_can_drop_after_the_request_was_processed(shop):
    shop.server.misbehave("submit", DropAfter())
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        shop.http.post(CUSTOMERS, json=[{"source_id": "c1"}])

    assert len(shop.server.actions) == 1
    assert list(shop.server.customers) == ["c1"]


def test_a_connection_can_drop_under_a_large_body(shop):
    shop.server.misbehave("submit", DropBefore())
    records = [{"source_id": f"c{number}", "description": "x" * 200} for number in range(40_000)]
    with pytest.raises(httpx.RemoteProtocolError):
        shop.http.post(CUSTOMERS, json=records)

    assert shop.server.received[-1].body_bytes_length > 9_000_000


def test_a_request_can_be_answered_with_any_status(shop):
    shop.server.misbehave("submit", Status(503, headers={"Retry-After": "1"}))
    shop.server.misbehave("submit", Status(502, body=b"<html>Bad Gateway</html>"))
    shop.server.misbehave("submit", Status(500, body={"code": 500, "key": "internal_error"}))
    answers = [shop.http.post(CUSTOMERS, json=[]) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 502, 500, 202]
    assert (answers[0].headers["retry-after"], answers[0].json()["code"]) == ("1", 503)
    assert answers[1].content == b"<html>Bad Gateway</html>"
    assert answers[2].json() == {"code": 500, "key": "internal_error"}
    assert len(shop.server.actions) == 1


def test_a_request_can_be_redirected(shop):
    shop.server.misbehave("poll", Status(302, headers={"Location": "https://elsewhere.example.com/"}))

    assert shop.http.get("/v1/async-actions/aa_1").headers["location"] == "https://elsewhere.example.com/"


def test_a_rate_limit_can_be_made_up(shop):
    shop.server.misbehave("list", RateLimited(retry_after=7, limit_type="bulk_api_calls", retry_epoch=1_800_000_000.2))
    shop.server.misbehave("list", RateLimited(limit_type=None))
    full, bare = (shop.http.get("/v1/async-actions") for _ in range(2))

    assert full.status_code == bare.status_code == 429
    assert full.headers["retry-after"] == "7"
    assert full.headers["x-rate-limit-type"] == "bulk_api_calls"
    assert full.headers["x-rate-limit-retry"] == "1800000001"
    assert not {"retry-after", "x-rate-limit-type", "x-rate-limit-retry"} & set(bare.headers)


def test_an_answer_can_be_late(shop):
    shop.server.misbehave("list", Delay(0.2))
    started = time.monotonic()

    assert shop.http.get("/v1/async-actions").status_code == 200
    assert time.monotonic() - started >= 0.2


def test_a_caller_can_give_up_on_a_late_answer(shop):
    shop.server.misbehave("list", Delay(60))
    with pytest.raises(httpx.ReadTimeout):
        shop.http.get("/v1/async-actions", timeout=0.1)

    assert shop.http.get("/v1/async-actions").status_code == 200


def test_an_answer_can_be_broken_json_though_the_request_was_processed(shop):
    shop.server.misbehave("submit", Malformed())
    answer = shop.http.post(CUSTOMERS, json=[])

    assert (answer.status_code, answer.content) == (202, b'{"async')
    assert len(shop.server.actions) == 1


def test_an_answer_can_come_in_drips(shop):
    shop.server.misbehave("list", SlowDrip(seconds=0.02, piece_bytes=10))
    started = time.monotonic()

    assert shop.http.get("/v1/async-actions").json()["object"] == "list"
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize("bytes_sent", [0, 10])
def test_a_report_can_break_off(shop, bytes_sent):
    url = shop.update("customers", [{"source_id": "c1"}])["result"]["reports"][0]
    shop.server.misbehave("report", Truncate(bytes_sent))
    received = b""
    with pytest.raises(httpx.RemoteProtocolError), shop.http.stream("GET", url) as answer:  # noqa: PT012
        for chunk in answer.iter_raw():
            received += chunk

    assert received == b"source_id,found,updated"[:bytes_sent]
    assert shop.http.get(url).status_code == 200


def test_a_token_request_can_misbehave(shop):
    shop.server.misbehave("token", Status(500))
    form = {"grant_type": "client_credentials", "scope": "api"}

    assert [shop.http.post("/v1/oauth/token", data=form).status_code for _ in range(2)] == [500, 200]


def test_a_fault_can_wait_and_repeat(shop):
    shop.server.misbehave("list", Status(500), times=2, after=1)

    assert [shop.http.get("/v1/async-actions").status_code for _ in range(4)] == [200, 500, 500, 200]


def test_a_fault_can_last_until_it_is_told_to_end(shop):
    shop.server.misbehave("list", Status(500), times=None)

    assert [shop.http.get("/v1/async-actions").status_code for _ in range(3)] == [500, 500, 500]
    shop.server.behave()
    assert shop.http.get("/v1/async-actions").status_code == 200


def test_a_fault_can_befall_a_path_or_whatever_a_predicate_says(shop):
    shop.server.misbehave("/v1/customers", Status(500), times=None)
    shop.server.misbehave(lambda method, path: method == "GET" and path.endswith("/p1"), Status(418), times=None)

    assert shop.http.post(CUSTOMERS, json=[]).status_code == 500
    assert shop.http.get("/v1/products/p1").status_code == 418
    assert shop.http.post("/v1/products/bulk/async", json=[]).status_code == 202


def test_a_misspelt_place_is_refused(shop):
    with pytest.raises(ValueError, match="where must be one of"):
        shop.server.misbehave("submits", DropBefore())
