"""
What an exported object has in each field, and how that is written in a cell of the file.

Which members of an object the fields are is said by the vendor's table of them (POST /v1/exports), more or less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from airflow_provider_voucherify.local_voucherify.export_requests import PREFIX, ExportRequest
from airflow_provider_voucherify.local_voucherify.options import Options

Wire: TypeAlias = dict[str, Any]
Getter: TypeAlias = Callable[[Wire], Any]

_OF_CUSTOMERS = {
    "address_": "address.",
    "redemptions_": "summary.redemptions.",
    "orders_": "summary.orders.",
    "loyalty_": "loyalty.",
}
_OF_VOUCHERS = {
    "voucher_type": "type",
    "discount_type": "discount.type",
    "discount_effect": "discount.effect",
    "discount_unit_effect": "discount.effect",
    "discount_unit_type": "discount.unit_type",
    "discount_amount_limit": "discount.amount_limit",
    "gift_balance": "gift.balance",
    "loyalty_balance": "loyalty_card.balance",
    "redemption_quantity": "redemption.quantity",
    "redemption_count": "redemption.redeemed_quantity",
    "qr_code": "assets.qr.url",
    "bar_code": "assets.barcode.url",
    "validity_timeframe_interval": "validity_timeframe.interval",
    "validity_timeframe_duration": "validity_timeframe.duration",
    "customer_id": "holder_id",
}
_FILTERS = {
    "customer": {"city": "address.city"},
    "voucher": {"redemption_status": "redemption.status", "vouchers": "code"},
    "redemption": {"customer": "customer_id", "voucher": "voucher_code", "campaign_name": "campaign"},
    "publication": {"customer": "customer_id", "voucher": "voucher_code", "campaign_name": "campaign"},
}
"""Filters that have another name than the member that they are about."""

_encode = msgspec.json.encode


def needs_description(request: ExportRequest) -> bool:
    """Say whether an export needs more than the stored fields; to leave the rest out saves a fifth of the time."""
    names = {*request.fields, *request.filters, *([request.order] if request.order else [])}
    return request.exported.name != "customer" or any(name.lstrip("-").startswith(_SUMMED_UP) for name in names)


_SUMMED_UP = ("redemptions_", "orders_", "loyalty", "summary", "system_metadata")


def getter_of(exported_object: str, name: str, options: Options) -> Getter:
    """
    Return what reads a field, or a filter's member, from an object as the API shows it.

    :param name: of a field or filter.
    """
    if name.startswith(PREFIX):
        return _single_property(name.removeprefix(PREFIX))
    if exported_object == "customer" and name == "updated_at" and options.export_updated_at == "created_at":
        return lambda shown: shown.get("updated_at") or shown["created_at"]
    if exported_object == "voucher" and name in _COMPUTED:
        return _COMPUTED[name]
    return _path(_member_of(exported_object, name))


def _member_of(exported_object: str, name: str) -> str:
    if (member := _FILTERS.get(exported_object, {}).get(name)) is not None:
        return member
    if exported_object == "voucher":
        return _OF_VOUCHERS.get(name, name)
    if exported_object == "customer":
        for start, member in _OF_CUSTOMERS.items():
            if name.startswith(start):
                return member + name.removeprefix(start)
    return name


def _path(member: str) -> Getter:
    first, *more = member.split(".")
    if not more:
        return lambda shown: shown.get(first)

    def get(shown: Wire) -> Any:
        value: Any = shown.get(first)
        for name in more:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    return get


def _single_property(name: str) -> Getter:
    return lambda shown: (shown.get("metadata") or {}).get(name)


def _value(voucher: Wire) -> Any:
    if isinstance(gift := voucher.get("gift"), dict):
        return gift.get("balance", gift.get("amount"))
    if isinstance(card := voucher.get("loyalty_card"), dict):
        return card.get("balance", card.get("points"))
    discount = voucher.get("discount") or {}
    return next((discount[name] for name in _DISCOUNTS if name in discount), None)


_DISCOUNTS = ("amount_off", "percent_off", "unit_off", "fixed_amount")


def _formula(voucher: Wire) -> Any:
    discount = voucher.get("discount") or {}
    return next((discount[f"{name}_formula"] for name in _DISCOUNTS if f"{name}_formula" in discount), None)


def _holder_source_id(voucher: Wire) -> str | None:
    """Return the key of the voucher's holder, which is in the ids that are given out here."""
    holder = str(voucher.get("holder_id") or "")
    try:
        return bytes.fromhex(holder.removeprefix("cust_")).decode() or None
    except ValueError:
        return None


def _rules(voucher: Wire) -> list[Any] | None:
    assigned = (voucher.get("validation_rules_assignments") or {}).get("data") or []
    return [one.get("rule_id") for one in assigned] or None


_COMPUTED: Mapping[str, Getter] = {
    "value": _value,
    "formula": _formula,
    "customer_source_id": _holder_source_id,
    "validation_rules_id": _rules,
}


def text_of(value: Any, options: Options) -> str:
    """
    Return a value as a cell has it.

    Null and absent are empty, truth values ``true`` and ``false`` (the vendor's table), numbers and texts as in JSON,
    nested objects JSON, and lists as the option ``export_lists`` says.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list) and options.export_lists == "joined":
        return ",".join(text_of(one, options) for one in value)
    return _encode(value).decode()


def title_of(field: str) -> str:
    """Return the title of a column, as in the vendor's example of a file: ``Voucher Type``, ``ID``."""
    return " ".join(word.upper() if word in ("id", "qr", "sku") else word.capitalize() for word in field.split("_"))
