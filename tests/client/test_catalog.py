"""Products and vouchers one by one and in lists, through both clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from airflow_provider_voucherify.client import products, vouchers
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.errors import (
    VoucherifyBadRequestError,
    VoucherifyConfigurationError,
    VoucherifyConflictError,
    VoucherifyNotFoundError,
)
from airflow_provider_voucherify.models.records import Voucher

Connect = Callable[..., Any]
DISCOUNT = {"type": "DISCOUNT_VOUCHER", "discount": {"type": "PERCENT", "percent_off": 10}, "metadata": {"a": 1}}


def body(server: LocalVoucherify, method: str) -> Any:
    """What the last request of a method sent."""
    return json.loads([r for r in server.received if r.method == method][-1].body or b"")


def test_a_product_is_created_read_and_changed(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    fields = {"source_id": "p1", "name": "Shirt", "price": 4500, "attributes": ["size"], "metadata": {"a": 1}}

    created = client.send(products.create_product(fields))
    changed = client.send(products.update_product("p1", created.model_copy(update={"price": 5000})))

    assert (created.source_id, created.price, created.attributes) == ("p1", 4500, ["size"])
    assert body(server, "PUT") == {"name": "Shirt", "price": 5000, "attributes": ["size"], "metadata": {"a": 1}}
    assert changed.price == client.send(products.get_product(created.id)).price == 5000
    assert client.send(products.create_product({"source_id": "p1", "name": "Polo"})).price == 5000
    with pytest.raises(VoucherifyNotFoundError, match="Cannot find product with id p2"):
        client.send(products.update_product("p2", {"name": "x"}))


def test_products_are_listed(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    client.bulk_update("products", [{"source_id": f"{n:04}"} for n in range(250)])

    page = client.send(products.list_products(limit=10, page=2, order="-created_at"))

    assert (len(page.products), page.total) == (10, 250)
    assert len(list(client.iterate(products.all_products()))) == 250
    assert len(list(client.iterate(products.all_products(order="-updated_at", start_date="2020-01-01")))) == 250
    assert list(client.iterate(products.all_products(end_date="2020-01-01"))) == []


def test_a_voucher_is_created_read_and_changed(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)

    created = client.send(vouchers.create_voucher("A B", DISCOUNT))
    client.send(vouchers.update_voucher("A B", created.model_copy(update={"active": False})))

    assert (created.code, created.type, created.metadata) == ("A B", "DISCOUNT_VOUCHER", {"a": 1})
    assert body(server, "PUT") == {
        "type": "DISCOUNT_VOUCHER",
        "discount": {"type": "PERCENT", "percent_off": 10},
        "active": False,
        "metadata": {"a": 1},
    }
    assert client.send(vouchers.get_voucher("A B")).active is False
    assert client.send(vouchers.get_voucher(created.id)).code == "A B"


def test_a_voucher_that_exists_is_not_created_again(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    client.send(vouchers.create_voucher("A", DISCOUNT))

    with pytest.raises(VoucherifyConflictError, match="Duplicated voucher exists with id A") as raised:
        client.send(
            vouchers.create_voucher("A", Voucher(code="A", type="GIFT_VOUCHER", gift={"amount": 1, "balance": 1}))
        )

    assert raised.value.key == "duplicate_found"
    assert len(server.requests("POST", "/v1/vouchers/A")) == 2


@pytest.mark.parametrize("force", [False, True])
def test_a_product_is_deleted(server: LocalVoucherify, connect_to: Connect, force: bool) -> None:
    client = connect_to(server)
    client.send(products.create_product({"source_id": "p1"}))

    client.send(products.delete_product("p1", force=force))

    assert not server.products
    assert server.received[-1].query == ("force=true" if force else "")
    with pytest.raises(VoucherifyNotFoundError, match="Cannot find product with id p1"):
        client.send(products.delete_product("p1"))


def test_a_voucher_is_deleted(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    server.add_voucher("A B")

    client.send(vouchers.delete_voucher("A B", force=True))

    assert not server.vouchers
    with pytest.raises(VoucherifyNotFoundError, match="Cannot find voucher with id A B"):
        client.send(vouchers.delete_voucher("A B"))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["A", "B", "C"]),
        ({"order": "-code"}, ["C", "B", "A"]),
        ({"order": "code", "limit": 1, "page": 2}, ["B"]),
        ({"category": "new"}, ["A"]),
        ({"campaign": "Spring"}, ["B"]),
        ({"campaign_id": "camp_1"}, ["B"]),
        ({"code": "C"}, ["C"]),
        ({"ids": ["A", "C"]}, ["A", "C"]),
        ({"customer": "c1"}, []),
        ({"created_at_before": "2020-01-01"}, []),
        ({"updated_at_after": "2020-01-01"}, []),
        ({"filters": {"metadata.tier": {"conditions": {"$is": "gold"}}}}, ["A"]),
    ],
    ids=str,
)
def test_vouchers_are_filtered_and_ordered(
    server: LocalVoucherify, connect_to: Connect, filters: dict[str, Any], found: list[str]
) -> None:
    server.add_voucher("A", category="new", metadata={"tier": "gold"})
    server.add_voucher("B", campaign="Spring", campaign_id="camp_1")
    server.add_voucher("C")

    page = connect_to(server).send(vouchers.list_vouchers(**filters))

    codes = [voucher.code for voucher in page.vouchers]
    assert (codes if "order" in filters else sorted(codes)) == found


@pytest.mark.parametrize("order", ["created_at", "-created_at", "code"])
def test_all_vouchers_are_listed(server: LocalVoucherify, connect_to: Connect, order: str) -> None:
    for number in range(350):
        server.add_voucher(f"V{number:04}", category="xy"[number % 2])

    listing = vouchers.all_vouchers(order=order, category="x", created_at_after="2020-01-01", ids=[])

    assert len({voucher.code for voucher in connect_to(server).iterate(listing)}) == 175


def test_the_highest_page_of_products_is_the_hundredth(unjudged: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(unjudged)

    assert client.send(products.list_products(page=100)).products == []
    with pytest.raises(VoucherifyBadRequestError, match="page must be an integer between 1 and 100"):
        client.send(products.list_products(page=101))


class TestALimitedVoucher:
    """How often and under which rules a voucher may be redeemed goes along when it is created from a model."""

    READ: ClassVar = {
        **DISCOUNT,
        "code": "OLD",
        "redemption": {"quantity": 3, "redeemed_quantity": 2, "object": "list", "url": "/v1/vouchers/OLD/redemptions"},
        "validation_rules_assignments": {
            "object": "list",
            "data": [{"id": "asgm_1", "rule_id": "val_1"}, {"id": "asgm_2", "rule_id": "val_2"}],
            "total": 2,
        },
    }

    def test_of_one_that_was_read(self, server: LocalVoucherify, connect_to: Connect) -> None:
        connect_to(server).send(vouchers.create_voucher("NEW", Voucher(**self.READ)))

        [sent] = server.requests("POST", "/v1/vouchers/NEW")
        assert json.loads(sent.body or b"") == {
            **DISCOUNT,
            "redemption": {"quantity": 3},
            "validation_rules": ["val_1", "val_2"],
        }

    def test_of_one_that_is_made_by_hand(self, server: LocalVoucherify, connect_to: Connect) -> None:
        voucher = Voucher(code="NEW", **DISCOUNT, redemption={"quantity": 1}, validation_rules=["val_3"])

        created = connect_to(server).send(vouchers.create_voucher("NEW", voucher))

        [sent] = server.requests("POST", "/v1/vouchers/NEW")
        assert json.loads(sent.body or b"") == {
            **DISCOUNT,
            "redemption": {"quantity": 1},
            "validation_rules": ["val_3"],
        }
        assert created.redemption == {"quantity": 1}

    def test_rules_that_are_not_all_known_are_not_dropped_in_silence(self) -> None:
        some = {**self.READ, "validation_rules_assignments": {"data": [{"rule_id": "val_1"}], "total": 2}}

        with pytest.raises(VoucherifyConfigurationError, match="not all validation rules of the voucher 'OLD'"):
            vouchers.create_voucher("NEW", Voucher(**some))

    def test_an_update_sends_neither(self, server: LocalVoucherify, connect_to: Connect) -> None:
        server.add_voucher("OLD")
        connect_to(server).send(vouchers.update_voucher("OLD", Voucher(**self.READ)))

        [sent] = server.requests("PUT", "/v1/vouchers/OLD")
        assert not {"redemption", "validation_rules"} & set(json.loads(sent.body or b""))
