"""Stories about rate limits and the headers that show them."""

from __future__ import annotations

import pytest


def _limit_headers(answer):
    names = ("limit", "remaining", "retry", "type")
    return {name: answer.headers.get(f"x-rate-limit-{name}") for name in names}


def test_every_answer_shows_what_is_left(open_shop, clock):
    shop = open_shop(api_calls=(3, 60), clock=clock)
    answers = [shop.http.get("/v1/async-actions") for _ in range(3)]

    assert [answer.headers["x-rate-limit-remaining"] for answer in answers] == ["2", "1", "0"]
    assert answers[0].headers["x-rate-limit-retry"] == "1800000000"
    assert answers[2].headers["x-rate-limit-retry"] == "1800000060"
    assert "retry-after" not in answers[2].headers


def test_a_call_above_the_limit_is_refused_until_the_next_period(open_shop, clock):
    shop = open_shop(api_calls=(1, 60), clock=clock)
    shop.http.get("/v1/async-actions")
    clock.turn(20.5)
    refused = shop.http.get("/v1/async-actions")

    assert refused.status_code == 429
    assert refused.json() == {"code": 429, "message": "Too many requests hit the API too quickly."}
    assert _limit_headers(refused) == {"limit": "1", "remaining": "0", "retry": "1800000060", "type": "api_calls"}
    assert refused.headers["retry-after"] == "40"
    clock.turn(39.5)
    assert shop.http.get("/v1/async-actions").status_code == 200


def test_bulk_calls_have_a_limit_of_their_own(open_shop, clock):
    shop = open_shop(bulk_api_calls=(1, 3600), api_calls=(10, 60), clock=clock)
    shop.submit("customers", [])
    refused = shop.http.post("/v1/products/bulk/async", json=[])

    assert (refused.status_code, refused.headers["x-rate-limit-type"]) == (429, "bulk_api_calls")
    assert refused.headers["retry-after"] == "3600"
    assert shop.http.get("/v1/async-actions").headers["x-rate-limit-remaining"] == "8"
    assert len(shop.server.actions) == 1


def test_bulk_calls_may_count_as_nothing_else(open_shop, clock):
    shop = open_shop(bulk_api_calls=(5, 60), api_calls=(10, 60), bulk_calls_are_api_calls=False, clock=clock)
    shop.submit("customers", [])

    assert shop.http.get("/v1/async-actions").headers["x-rate-limit-remaining"] == "9"


def test_the_periods_end_may_be_told_all_the_time(open_shop, clock):
    shop = open_shop(api_calls=(3, 60), retry_header="period_end", clock=clock)
    clock.turn(20)

    assert shop.http.get("/v1/async-actions").headers["x-rate-limit-retry"] == "1800000060"


def test_answers_have_the_date_of_the_servers_clock(open_shop, clock):
    answer = open_shop(clock=clock).http.get("/v1/async-actions")

    assert answer.headers.get_list("date") == ["Fri, 15 Jan 2027 08:00:00 GMT"]


def test_the_limit_of_the_billing_cycle_cannot_be_waited_out(open_shop, clock):
    shop = open_shop(api_calls=(100, 60), api_calls_cycle=(1, 30 * 86_400), clock=clock)
    shop.http.get("/v1/async-actions")
    clock.turn(3600)
    refused = shop.http.get("/v1/async-actions")

    assert (refused.status_code, refused.headers["x-rate-limit-type"]) == (429, "api_calls_cycle")
    assert int(refused.headers["retry-after"]) == 30 * 86_400 - 3600


@pytest.mark.parametrize("path", ["/v1/customers/nobody", "/v1/nothing", "/v1/async-actions?limit=0"])
def test_errors_show_the_limit_too(open_shop, path):
    answer = open_shop(api_calls=(3, 60)).http.get(path)

    assert answer.headers["x-rate-limit-limit"] == "3"


def test_calls_without_credentials_count_towards_nothing(open_shop):
    shop = open_shop(api_calls=(3, 60))
    answer = shop.http.get("/v1/async-actions", headers={"X-App-Token": "wrong"})

    assert (answer.status_code, answer.headers["x-rate-limit-remaining"]) == (401, "3")


def test_without_limits_there_are_no_limit_headers(shop):
    assert set(_limit_headers(shop.http.get("/v1/async-actions")).values()) == {None}
