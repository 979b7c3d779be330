"""Which calls about single records are sent again after a failure that may pass, and which never."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify.client import auth, csv_imports, customers, products, vouchers
from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.local_voucherify import DropAfter, DropBefore, LocalVoucherify, RateLimited, Status
from airflow_provider_voucherify.models.errors import (
    VoucherifyConflictError,
    VoucherifyError,
    VoucherifyNoAnswerError,
    VoucherifyNotFoundError,
)

Connect = Callable[..., Any]
DISCOUNT = {"type": "DISCOUNT_VOUCHER", "discount": {"type": "PERCENT", "percent_off": 10}}


def csv() -> io.BytesIO:
    return io.BytesIO(b"Source_id,Name\nc9,Ann\n")


SAFE: dict[str, Callable[[], Call[Any]]] = {
    "create_customer with source_id": lambda: customers.create_customer({"source_id": "c1", "name": "x"}),
    "create_customer with id": lambda: customers.create_customer({"id": "cust_6331", "name": "x"}),
    "get_customer": lambda: customers.get_customer("c1"),
    "update_customer": lambda: customers.update_customer("c1", {"name": "x"}),
    "delete_customer": lambda: customers.delete_customer("c1"),
    "list_customers": lambda: customers.list_customers(),
    "list_customer_activity": lambda: customers.list_customer_activity("c1"),
    "list_customer_segments": lambda: customers.list_customer_segments("c1"),
    "list_customer_redeemables": lambda: customers.list_customer_redeemables("c1"),
    "create_product with source_id": lambda: products.create_product({"source_id": "p1"}),
    "get_product": lambda: products.get_product("p1"),
    "update_product": lambda: products.update_product("p1", {"name": "x"}),
    "list_products": lambda: products.list_products(),
    "get_voucher": lambda: vouchers.get_voucher("A"),
    "update_voucher": lambda: vouchers.update_voucher("A", {"active": True}),
    "list_vouchers": lambda: vouchers.list_vouchers(),
    "introspect_oauth_token": lambda: auth.introspect_oauth_token("token-123"),
}
UNSAFE: dict[str, Callable[[], Call[Any]]] = {
    "create_customer without id": lambda: customers.create_customer({"name": "x"}),
    "create_product without id": lambda: products.create_product({"name": "x"}),
    "delete_customer_permanently": lambda: customers.delete_customer_permanently("c1"),
    "create_voucher": lambda: vouchers.create_voucher("NEW", DISCOUNT),
    "import_csv": lambda: csv_imports.import_csv("customers", csv()),
}


@pytest.fixture
def shop(server: LocalVoucherify, connect_sync: Connect) -> Any:
    client = connect_sync(server)
    client.send(customers.create_customer({"source_id": "c1", "name": "Ann"}))
    client.send(products.create_product({"source_id": "p1", "name": "Shirt"}))
    server.add_voucher("A")
    return client


def any_request(method: str, path: str) -> bool:
    return True


@pytest.mark.parametrize("fault", [Status(500), Status(503), DropBefore(), DropAfter()], ids=repr)
@pytest.mark.parametrize("call", SAFE.values(), ids=SAFE)
def test_what_does_no_harm_twice_is_sent_again(
    server: LocalVoucherify, shop: Any, call: Callable[[], Call[Any]], fault: Any
) -> None:
    before = len(server.received)
    server.misbehave(any_request, fault, times=2)

    shop.send(call())

    assert len(server.received) == before + 3
    assert len({request.body for request in server.received[before:]}) == 1


@pytest.mark.parametrize("fault", [Status(500), Status(503), DropBefore(), DropAfter()], ids=repr)
@pytest.mark.parametrize("call", UNSAFE.values(), ids=UNSAFE)
def test_what_would_do_harm_twice_is_never_sent_again(
    server: LocalVoucherify, shop: Any, call: Callable[[], Call[Any]], fault: Any
) -> None:
    before = len(server.received)
    server.misbehave(any_request, fault)

    with pytest.raises(VoucherifyError) as raised:
        shop.send(call())

    assert len(server.received) == before + 1
    if isinstance(raised.value, VoucherifyNoAnswerError):
        assert "Voucherify may have accepted it, so it was not sent again" in str(raised.value)


@pytest.mark.parametrize("call", UNSAFE.values(), ids=UNSAFE)
def test_all_are_sent_again_after_a_429(server: LocalVoucherify, shop: Any, call: Callable[[], Call[Any]]) -> None:
    server.misbehave(any_request, RateLimited(0.01), times=5)

    shop.send(call())


def test_a_deletion_that_was_not_answered_counts_as_done(server: LocalVoucherify, shop: Any) -> None:
    server.misbehave("/v1/customers/c1", DropAfter())

    assert shop.send(customers.delete_customer("c1")) is None

    assert [request.status for request in server.requests("DELETE", "/v1/customers/c1")] == [None, 404]
    assert "c1" not in server.customers


def test_a_404_after_nothing_but_a_429_is_an_error(server: LocalVoucherify, shop: Any) -> None:
    server.misbehave("/v1/customers/c2", RateLimited(0.01))

    with pytest.raises(VoucherifyNotFoundError):
        shop.send(customers.delete_customer("c2"))


def test_a_change_that_was_not_answered_is_made_once(server: LocalVoucherify, shop: Any) -> None:
    server.misbehave("/v1/customers/c1", DropAfter())

    changed = shop.send(customers.update_customer("c1", {"metadata": {"a": [1]}}))

    assert changed.metadata == {"a": [1]}
    assert len(server.requests("PUT", "/v1/customers/c1")) == 2


def test_a_404_of_a_change_after_a_failed_attempt_is_an_error(server: LocalVoucherify, shop: Any) -> None:
    server.misbehave("/v1/customers/c2", Status(500))

    with pytest.raises(VoucherifyNotFoundError):
        shop.send(customers.update_customer("c2", {"name": "x"}))


def test_a_conflict_is_told_as_it_is(server: LocalVoucherify, shop: Any) -> None:
    with pytest.raises(VoucherifyConflictError):
        shop.send(vouchers.create_voucher("A", DISCOUNT))
