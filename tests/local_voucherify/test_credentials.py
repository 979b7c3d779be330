"""Stories about API keys and OAuth tokens."""

from __future__ import annotations

import httpx
import pytest

UNAUTHORIZED = {"code": 401, "message": "Unauthorized", "key": "unauthorized"}


def _token(shop, scope="api"):
    answer = shop.http.post("/v1/oauth/token", data={"grant_type": "client_credentials", "scope": scope})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _get(shop, path, token):
    return httpx.get(shop.server.base_url + path, headers={"Authorization": f"Bearer {token['access_token']}"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-App-Id": "shop-app-id"},
        {"X-App-Id": "shop-app-id", "X-App-Token": "wrong"},
        {"X-App-Id": "wrong", "X-App-Token": "shop-secret-key"},
        {"Authorization": "Bearer unknown"},
        {"Authorization": "Basic c2hvcA=="},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/customers/bulk/async"),
        ("POST", "/v1/vouchers/metadata/async"),
        ("GET", "/v1/async-actions"),
        ("GET", "/v1/async-actions/aa_1"),
        ("GET", "/v1/customers/c1"),
        ("GET", "/v1/metadata-schemas"),
        ("POST", "/v1/oauth/token"),
    ],
)
def test_wrong_credentials_give_the_documented_401(shop, method, path, headers):
    answer = httpx.request(method, shop.server.base_url + path, headers=headers)

    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


def test_a_token_replaces_the_key_until_it_expires(open_shop, clock):
    shop = open_shop(clock=clock)
    token = _token(shop)

    assert {name: token[name] for name in ("client_id", "expires_at", "expires_in", "scope", "token_type")} == {
        "client_id": "shop-app-id",
        "expires_at": 1_800_000_900,
        "expires_in": 900,
        "scope": "api",
        "token_type": "Bearer",
    }
    clock.turn(899)
    assert _get(shop, "/v1/async-actions", token).status_code == 200
    clock.turn(1)
    assert _get(shop, "/v1/async-actions", token).json() == UNAUTHORIZED


def test_a_token_permits_only_what_its_scopes_name(shop):
    token = _token(shop, "customers async-actions")

    assert _get(shop, "/v1/async-actions", token).status_code == 200
    refused = _get(shop, "/v1/vouchers/A", token)
    assert (refused.status_code, refused.json()["key"]) == (403, "missing_required_permission")


def test_a_token_is_no_key_for_tokens(shop):
    headers = {"Authorization": f"Bearer {_token(shop)['access_token']}"}
    answer = httpx.post(shop.server.base_url + "/v1/oauth/token", headers=headers)

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("form", "error"),
    [
        (
            {"grant_type": "client_credentials", "scope": "vouchers,campaigns"},
            {"code": 400, "key": "invalid_scope", "message": "Invalid scope: vouchers,campaigns"},
        ),
        (
            {"grant_type": "client_credentials", "scope": "everything"},
            {"code": 400, "key": "invalid_scope", "message": "Invalid scope: everything"},
        ),
        (
            {"grant_type": "client_credentials"},
            {"code": 400, "key": "invalid_scope", "message": "Invalid scope: "},
        ),
        (
            {"grant_type": "password", "scope": "api"},
            {"code": 400, "key": "invalid_grant_type", "message": "Invalid grant_type"},
        ),
    ],
)
def test_a_wrong_token_request_gives_a_400(shop, form, error):
    answer = shop.http.post("/v1/oauth/token", data=form)

    assert (answer.status_code, answer.json()) == (400, error)


def test_a_token_request_must_be_a_form(shop):
    assert shop.http.post("/v1/oauth/token", json={"grant_type": "client_credentials"}).status_code == 415


def test_a_token_can_be_looked_at(open_shop, clock):
    shop = open_shop(clock=clock)
    token = _token(shop)
    clock.turn(345)

    introspected = shop.http.post("/v1/oauth/introspect", data={"access_token": token["access_token"]}).json()
    assert introspected == {**token, "expires_in": 555, "active": True}
    assert shop.http.post("/v1/oauth/introspect", data={"access_token": "x"}).json() == {"active": False}
    missing = shop.http.post("/v1/oauth/introspect", data={"token": "x"})
    assert (missing.status_code, missing.json()["key"]) == (400, "missing_parameters")


def test_a_token_can_be_revoked_once(shop):
    token = _token(shop)
    answers = [shop.http.post("/v1/oauth/token/revoke", data={"access_token": token["access_token"]}) for _ in range(2)]

    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b""), (404, b"")]
    assert _get(shop, "/v1/async-actions", token).status_code == 401


def test_all_tokens_can_be_ended_at_once(shop):
    token = _token(shop)
    shop.server.expire_tokens()

    assert _get(shop, "/v1/async-actions", token).status_code == 401
