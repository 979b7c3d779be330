"""Stories about what the server remembers and writes of its requests."""

from __future__ import annotations

import logging

import httpx


def test_requests_are_remembered_with_their_status(open_shop):
    shop = open_shop(keep_bodies=True)
    shop.http.post("/v1/customers/bulk/async", json=[])
    shop.http.get("/v1/async-actions?limit=1")

    first, second = shop.server.received
    assert (first.method, first.path, first.body, first.body_bytes_length, first.status) == (
        "POST",
        "/v1/customers/bulk/async",
        b"[]",
        2,
        202,
    )
    assert (second.query, second.status) == ("limit=1", 200)
    assert shop.server.requests("GET", "/v1/async-actions") == [second]


def test_bodies_are_kept_only_on_demand(shop):
    shop.http.post("/v1/customers/bulk/async", json=[])

    assert shop.server.received[0].body is None


def test_no_secret_is_remembered_or_logged(shop, caplog):
    with caplog.at_level(logging.DEBUG, logger="airflow_provider_voucherify.local_voucherify"):
        form = {"grant_type": "client_credentials", "scope": "api"}
        token = shop.http.post("/v1/oauth/token", data=form).json()["access_token"]
        httpx.get(f"{shop.server.base_url}/v1/async-actions", headers={"Authorization": f"Bearer {token}"})
        report = shop.update("customers", [{"source_id": "c1"}])["result"]["reports"][0]
        shop.http.get(report)

    own_lines = [record.getMessage() for record in caplog.records if record.name.startswith("airflow_provider")]
    seen = repr((shop.server.received, own_lines, shop.server.options))
    assert "GET /v1/async-actions: 200" in own_lines
    assert shop.server.received[-1].query == "token=***"
    assert not [secret for secret in ("shop-secret-key", token, report.rpartition("=")[2]) if secret in seen]


def test_reset_forgets_everything_and_keeps_the_server(shop):
    shop.update("customers", [{"source_id": "c1"}])
    shop.server.add_voucher("A")
    shop.server.reset()

    assert (len(shop.server.customers), len(shop.server.vouchers)) == (0, 0)
    assert (shop.server.actions, shop.server.received) == ({}, [])
    assert shop.update("customers", [{"source_id": "c1"}])["status"] == "DONE"
