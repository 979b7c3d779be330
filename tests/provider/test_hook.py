"""``VoucherifyHook``: a connection in any of Airflow's forms, the six bulk calls."""

from __future__ import annotations

import asyncio
import io
import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from connections import APP_ID, SECRET_KEY

from airflow_provider_voucherify.exceptions import (
    VoucherifyConfigurationError,
    VoucherifyNotFoundError,
    VoucherifyPermissionError,
)
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status


def _uri(base_url: str) -> str:
    return f"voucherify://{APP_ID}:{SECRET_KEY}@{base_url.removeprefix('http://')}/http"


def _json(base_url: str) -> str:
    return json.dumps({"conn_type": "voucherify", "host": base_url, "login": APP_ID, "password": SECRET_KEY})


def _oauth(base_url: str) -> str:
    extra = {"auth_method": "oauth", "scope": "customers async-actions"}
    return json.dumps({**json.loads(_json(base_url)), "extra": extra})


@pytest.mark.parametrize("form", [_uri, _json, _oauth])
def test_a_connection_works_in_each_of_airflow_s_forms(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, form: Callable[[str], str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", form(voucherify.base_url))

    with VoucherifyHook("mine") as hook:
        action_id = hook.update_customers_in_bulk([{"source_id": "c1", "name": "Ann"}])
        action = hook.get_async_action(action_id)

    assert action.type == "CUSTOMERS.BULK_UPDATE"
    assert voucherify.customers["c1"]["name"] == "Ann"


CALLS: list[tuple[str, tuple[Any, ...], str]] = [
    ("update_customers_in_bulk", ([{"source_id": "a"}],), "CUSTOMERS.BULK_UPDATE"),
    ("update_products_in_bulk", ([{"source_id": "a"}],), "PRODUCTS.BULK_UPDATE"),
    ("update_vouchers_in_bulk", ([{"code": "a", "metadata": {"k": 1}}],), "VOUCHERS.BULK_UPDATE"),
    ("update_customers_metadata_in_bulk", (["a"], {"k": 1}), "CUSTOMERS.METADATA_UPDATE"),
    ("update_products_metadata_in_bulk", (["a"], {"k": 1}), "PRODUCTS.METADATA_UPDATE"),
    ("update_vouchers_metadata_in_bulk", (["a"], {"k": 1}), "VOUCHERS.METADATA_UPDATE"),
]


@pytest.mark.parametrize(("method", "arguments", "action_type"), CALLS, ids=[call[0] for call in CALLS])
def test_the_six_bulk_calls(
    voucherify: LocalVoucherify, method: str, arguments: tuple[Any, ...], action_type: str
) -> None:
    with VoucherifyHook() as hook:
        action_id = getattr(hook, method)(*arguments)
        [listed] = hook.list_async_actions(limit=10).async_actions

    assert (listed.id, listed.type) == (action_id, action_type)


def test_a_report_is_downloaded(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        action = hook.get_async_action(hook.update_products_in_bulk([{"source_id": "p1"}]))
        assert action.result is not None
        file = io.BytesIO()
        size = hook.download_report(action.result["reports"][0], file)

    assert file.getvalue().splitlines()[1] == b"p1,false,true"
    assert size == len(file.getvalue())


def test_errors_carry_what_the_api_said(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook, pytest.raises(VoucherifyNotFoundError) as caught:
        hook.get_async_action("aa_00")

    assert caught.value.key == "not_found"
    assert (
        f"GET {voucherify.base_url}/v1/async-actions/aa_00 (connection voucherify_default) was answered with 404"
        in str(caught.value)
    )


def test_metadata_schemas_are_read(voucherify: LocalVoucherify) -> None:
    voucherify.set_metadata_schema("customers", {"properties": {"level": {"type": "number"}}})

    with VoucherifyHook() as hook:
        schema = hook.get_metadata_schema("customers")

        assert schema.properties["level"].type == "number"
        assert hook.list_metadata_schemas().schemas == [schema]
        with pytest.raises(VoucherifyNotFoundError):
            hook.get_metadata_schema("vouchers")


def test_a_hook_reads_its_connection_only_when_it_is_used() -> None:
    hook = VoucherifyHook("does_not_exist")

    with pytest.raises(Exception, match="does_not_exist"):
        hook.get_conn()


def test_an_unknown_resource_is_refused(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook, pytest.raises(VoucherifyConfigurationError, match="customers, products, vouchers"):
        hook.get_conn().bulk_update("orders", [])


@pytest.mark.parametrize("wrong", [{"extra": {"timeout": 1_000}}, {"host": "ftp://nowhere"}, {"login": ""}], ids=str)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_no_variable_of_an_errors_frames_shows_what_a_connection_has(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], is_async: bool
) -> None:
    connection = {"conn_type": "voucherify", "host": "eu", "login": APP_ID, "password": SECRET_KEY, **wrong}
    monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(connection))

    with pytest.raises(VoucherifyConfigurationError) as raised:
        asyncio.run(VoucherifyHook().get_async_conn()) if is_async else VoucherifyHook().get_conn()

    frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)][1:]
    assert frames
    assert SECRET_KEY not in repr([frame.f_locals for frame in frames])


@pytest.mark.parametrize("method", ["introspect_oauth_token", "revoke_oauth_token"])
def test_nor_the_token_that_a_call_is_about(voucherify: LocalVoucherify, method: str) -> None:
    voucherify.misbehave("/v1/oauth", Status(403))

    with VoucherifyHook() as hook, pytest.raises(VoucherifyPermissionError) as raised:
        getattr(hook, method)("tok-e1c5-do-not-print")

    frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)][1:]
    assert "tok-e1c5" not in repr([frame.f_locals for frame in frames])
