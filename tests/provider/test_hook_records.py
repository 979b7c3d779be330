"""``VoucherifyHook`` beside the bulk calls: single records, lists, CSV imports, tokens."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from connections import connect

from airflow_provider_voucherify.client import auth, calls, csv_imports, customers, exports, products, vouchers
from airflow_provider_voucherify.exceptions import VoucherifyExportError, VoucherifyNotFoundError
from airflow_provider_voucherify.hooks.api_methods import ApiMethods
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify

MODULES = (calls, csv_imports, customers, auth, exports, products, vouchers)
DISCOUNT = {"type": "DISCOUNT_VOUCHER", "discount": {"type": "PERCENT", "percent_off": 10}}


def test_customers_one_by_one(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        created = hook.create_customer({"source_id": "c1", "name": "Ann", "phone": "1"})
        read = hook.get_customer("c1")
        changed = hook.update_customer("c1", read.model_copy(update={"name": "Anna"}))
        assert (created.name, changed.name, changed.phone) == ("Ann", "Anna", "1")

        assert hook.delete_customer("c1") is None
        with pytest.raises(VoucherifyNotFoundError):
            hook.get_customer("c1")

        hook.create_customer({"source_id": "c2"})
        assert hook.delete_customer_permanently("c2").status == "DONE"
        assert len(voucherify.customers) == 0


def test_customers_in_lists(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        hook.update_customers_in_bulk([{"source_id": f"{n:03}", "name": "xy"[n % 2]} for n in range(250)])
        page = hook.list_customers(limit=3, page=2, order="source_id", name="x")
        everybody = hook.all_customers()
        assert [customer.source_id for customer in page.customers] == ["006", "008", "010"]
        assert len({customer.source_id for customer in everybody}) == 250
        assert len(list(hook.all_customers(order="-created_at", name="y", created_at_after="2020-01-01"))) == 125


def test_what_is_known_of_a_customer(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        customer = hook.create_customer({"source_id": "c1"})
        voucherify.add_segment("Gold", ["c1"])
        voucherify.add_voucher("A", holder_id=customer.id)

        assert [one.type for one in hook.list_customer_activity("c1", limit=1).data] == ["customer.created"]
        assert [one.type for one in hook.all_customer_activity("c1", type="customer.created")] == ["customer.created"]
        assert [one.name for one in hook.list_customer_segments("c1").data] == ["Gold"]
        assert [one.redeemable_object for one in hook.list_customer_redeemables("c1").data] == ["voucher"]
        assert len(list(hook.all_customer_redeemables("c1", order="-id"))) == 1


DEPRECATED: dict[str, Callable[[VoucherifyHook], Any]] = {
    "activities": lambda hook: hook.list_customer_activities("c1", limit=5),
    "birthday": lambda hook: hook.create_customer({"source_id": "c1", "birthday": "1990-01-02"}),
}


@pytest.mark.parametrize("call", DEPRECATED.values(), ids=DEPRECATED)
def test_what_the_vendor_has_deprecated_warns_where_it_is_called(
    voucherify: LocalVoucherify, call: Callable[[VoucherifyHook], Any]
) -> None:
    with VoucherifyHook() as hook:
        hook.create_customer({"source_id": "c1"})
        with pytest.warns(DeprecationWarning, match="deprecated by Voucherify") as warned:
            call(hook)

    assert [one.filename for one in warned] == [__file__]


def test_consents_are_sent_with_a_warning_and_the_answer_passed_on(voucherify: LocalVoucherify) -> None:
    with (
        VoucherifyHook() as hook,
        pytest.warns(DeprecationWarning, match="removed by Voucherify"),
        pytest.raises(VoucherifyNotFoundError, match=r"PUT .*/v1/customers/c1/consents .*was answered with 404"),
    ):
        hook.update_customers_consents("c1", {"unsubscribed": True})


def test_products_and_vouchers(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        hook.create_product({"source_id": "p1", "name": "Shirt", "price": 4500})
        hook.update_product("p1", {"price": 5000})
        hook.create_voucher("A", DISCOUNT)
        hook.update_voucher("A", {"metadata": {"channel": "mail"}})

        assert (hook.get_product("p1").price, hook.get_voucher("A").metadata) == (5000, {"channel": "mail"})
        assert [product.name for product in hook.list_products(order="-created_at").products] == ["Shirt"]
        assert [voucher.code for voucher in hook.list_vouchers(code="A").vouchers] == ["A"]
        assert [product.name for product in hook.all_products(start_date="2020-01-01")] == ["Shirt"]
        assert [voucher.code for voucher in hook.all_vouchers(ids=["A", "B"])] == ["A"]


def test_csv_imports(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    contents = {
        "customers": "Source_id,Name\nc1,Ann\n",
        "products": "name,source_id\nShirt,p1\n",
        "skus": "product_id,source_id,sku\np1,s1,XS\n",
    }
    with VoucherifyHook() as hook:
        for resource, content in contents.items():
            file = tmp_path / f"{resource}.csv"
            file.write_text(content)
            action = hook.get_async_action(getattr(hook, f"import_{resource}_using_csv")(file))
            assert (action.type, action.is_finished) == (f"{resource.upper()}.IMPORT_CSV", True)

    assert voucherify.customers["c1"]["name"] == "Ann"
    assert voucherify.skus["s1"]["product_id"] == voucherify.products["p1"]["id"]


def test_exports(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        hook.create_customer({"source_id": "c1", "name": "Ann", "metadata": {"vip": True}})
        export = hook.create_export("customer", fields=["source_id", "metadata"], order="-created_at")
        assert hook.get_export(export.id).is_finished
        file = io.BytesIO()
        size = hook.download_export(export.id, file)

        assert file.getvalue() == b"source_id,metadata.vip\r\nc1,true\r\n"
        assert size == len(file.getvalue())
        assert [one.id for one in hook.list_exports(limit=1).exports] == [export.id]
        assert [one.id for one in hook.all_exports(order="status")] == [export.id]
        assert hook.delete_export(export.id) is None
        with pytest.raises(VoucherifyNotFoundError):
            hook.download_export(export.id, file)


def test_what_a_task_returns_of_an_export_has_no_token(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        export = hook.get_export(hook.create_export("customer").id)
        listed = hook.list_exports()

    for returned in (export.to_dict(), listed.to_dict()):
        text = json.dumps(returned)
        assert f"/v1/exports/{export.id}" in text
        assert "token" not in text


def test_an_export_that_failed_is_an_error_that_dags_can_name(voucherify: LocalVoucherify) -> None:
    voucherify.next_exports(status="ERROR")

    with VoucherifyHook() as hook, pytest.raises(VoucherifyExportError, match="its status is ERROR"):
        hook.download_export(hook.create_export("order").id, io.BytesIO())


def test_tokens(voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_voucherify.client.auth import oauth_token

    connect(monkeypatch, voucherify, auth_method="oauth", scope="customers")
    with VoucherifyHook() as hook:
        token = hook.get_conn().send(oauth_token("customers")).access_token
        assert hook.introspect_oauth_token(token).scope == "customers"
        hook.revoke_oauth_token(token)
        assert not hook.introspect_oauth_token(token).active
        assert hook.all_customers() is not None


def test_the_same_calls_go_through_an_asynchronous_client(voucherify: LocalVoucherify) -> None:
    async def look() -> tuple[str | None, list[str | None]]:
        async with await VoucherifyHook().get_async_conn() as client:
            await client.send(customers.create_customer({"source_id": "c1", "name": "Ann"}))
            customer = await client.send(customers.get_customer("c1"))
            return customer.name, [one.source_id async for one in client.iterate(customers.all_customers())]

    assert asyncio.run(look()) == ("Ann", ["c1"])


def api_methods() -> dict[str, Any]:
    return {
        name: method
        for name, method in inspect.getmembers(ApiMethods, inspect.isfunction)
        if not name.startswith("_") and name != "get_conn"
    }


def test_every_method_has_the_docstring_and_the_parameters_of_its_call() -> None:
    for name, method in api_methods().items():
        [call] = [getattr(module, name) for module in MODULES if hasattr(module, name)]
        with_self, asked = inspect.signature(method), inspect.signature(call)

        assert method.__doc__ == call.__doc__ is not None
        assert [*with_self.parameters.values()][1:] == [*asked.parameters.values()]
        assert method.__name__ == name
    assert len(api_methods()) > 35


def test_a_method_says_what_it_returns() -> None:
    returned = {name: inspect.signature(method).return_annotation for name, method in api_methods().items()}

    assert returned["get_customer"] == "Customer"
    assert returned["all_customers"] == "Iterator[Customer]"
    assert returned["delete_customer"] == "None"
    assert not [value for value in returned.values() if value.startswith(("Call", "Listing"))]


def test_a_traceback_does_not_show_the_token_that_a_method_was_given(voucherify: LocalVoucherify) -> None:
    token = "a-token-of-somebody"

    with VoucherifyHook() as hook, pytest.raises(VoucherifyNotFoundError) as failed:
        hook.revoke_oauth_token(token)

    frames = [frame for frame, _ in traceback.walk_tb(failed.value.__traceback__)]
    ours = [frame for frame in frames if frame.f_globals["__name__"].startswith("airflow_provider_voucherify.")]
    assert ours
    assert [frame.f_code.co_name for frame in ours if token in repr(frame.f_locals)] == []


def test_importing_the_hook_stays_cheap() -> None:
    program = (
        "import sys, airflow_provider_voucherify.hooks.voucherify;"
        "print([name for name in sys.modules if name.startswith('airflow_provider_voucherify.client')])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines()[-1] == "[]"
