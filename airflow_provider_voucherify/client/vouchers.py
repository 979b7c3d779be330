"""Calls for single vouchers and lists of them. ``records`` describes what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.paging import Listing, Pages, TimeOrder, by_page, by_time
from airflow_provider_voucherify.client.records import (
    Time,
    api_filters,
    delete,
    fields_to_send,
    json_body,
    path_of,
    query_of,
    reader,
)
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.models.records import Voucher, VoucherList

VOUCHER_FIELDS = (
    "type",
    "discount",
    "category",
    "category_id",
    "start_date",
    "expiration_date",
    "validity_timeframe",
    "validity_day_of_week",
    "validity_hours",
    "active",
    "additional_info",
    "metadata",
)
"""What ``PUT`` changes."""

_NEW_VOUCHER_FIELDS = (
    *VOUCHER_FIELDS,
    "gift",
    "loyalty_card",
    "campaign",
    "campaign_id",
    "redemption",
    "validation_rules",
)


class VoucherFilters(TypedDict, total=False):
    """
    Filters for lists of vouchers.

    ``campaign`` is a campaign's name, ``customer`` the id or source id of the holder. ``filters`` is the vendor's
    language for conditions, e.g. ``{"metadata.tier": {"conditions": {"$is": "gold"}}}``.
    """

    category: str
    campaign: str
    campaign_id: str
    customer: str
    code: str
    ids: Sequence[str]
    created_at_before: Time
    created_at_after: Time
    updated_at_before: Time
    updated_at_after: Time
    filters: Mapping[str, Any]


def create_voucher(code: str, voucher: Voucher | Mapping[str, Any]) -> Call[Voucher]:
    """
    Create a voucher with a given code (``POST /v1/vouchers/{code}``).

    A code that exists is a ``VoucherifyConflictError``. A voucher that was read is sent with its limit of redemptions
    (``redemption.quantity``) and its validation rules, not with its count of redemptions.

    :param voucher: ``type`` and what that needs: ``discount``, ``gift``, or ``loyalty_card`` and a campaign.
    :raises VoucherifyConfigurationError: the rules of a voucher that was read are incomplete.
    """
    fields = fields_to_send(voucher, _NEW_VOUCHER_FIELDS)
    if isinstance(voucher, Voucher):
        fields |= _limits_of(voucher)
        fields = {name: value for name, value in fields.items() if value is not None}
    return Call("POST", path_of("vouchers", code), reader(Voucher), safe=False, body=json_body(fields))


def _limits_of(voucher: Voucher) -> dict[str, Any]:
    """Return the limit of redemptions and the rules of a new voucher; answers have both in another form."""
    quantity = (voucher.redemption or {}).get("quantity")
    redemption = None if quantity is None else {"quantity": quantity}
    if voucher.validation_rules is not None:
        return {"redemption": redemption}
    assigned = (voucher.validation_rules_assignments or {}).get("data") or []
    rules = [one["rule_id"] for one in assigned if isinstance(one, dict) and isinstance(one.get("rule_id"), str)]
    if len(rules) < ((voucher.validation_rules_assignments or {}).get("total") or len(assigned)):
        raise VoucherifyConfigurationError(
            f"not all validation rules of the voucher {voucher.code!r} are known: pass their ids as validation_rules"
        )
    return {"redemption": redemption, "validation_rules": rules or None}


def get_voucher(code: str) -> Call[Voucher]:
    """
    Get a voucher (``GET /v1/vouchers/{code}``).

    :param code: its code, or Voucherify's ``id``.
    """
    return Call("GET", path_of("vouchers", code), reader(Voucher), safe=True)


def update_voucher(code: str, voucher: Voucher | Mapping[str, Any]) -> Call[Voucher]:
    """
    Change fields of a voucher (``PUT /v1/vouchers/{code}``); the others stay as they are.

    Voucherify silently skips fields that this endpoint cannot change, such as ``campaign`` or a card's balance.

    :param voucher: the fields to change, or a voucher that was read and changed.
    """
    body = json_body(fields_to_send(voucher, VOUCHER_FIELDS))
    return Call("PUT", path_of("vouchers", code), reader(Voucher), safe=True, body=body)


def delete_voucher(code: str, *, force: bool = False) -> Call[None]:
    """
    Delete a voucher and its redemptions (``DELETE /v1/vouchers/{code}``).

    A voucher that does not exist is a ``VoucherifyNotFoundError``, unless an earlier attempt of the same call was not
    answered: then that attempt deleted it.

    :param code: its code, or Voucherify's ``id``.
    :param force: delete for good; otherwise it is moved to the bin.
    """
    return delete("vouchers", code, force=force)


def list_vouchers(
    *, limit: int = 100, page: int | None = None, order: str | None = None, **filters: Unpack[VoucherFilters]
) -> Call[VoucherList]:
    """
    Get one page of vouchers (``GET /v1/vouchers``).

    :param limit: 1 to 100.
    :param page: 1 to 99.
    :param order: ``created_at``, ``updated_at`` or ``code``, descending with a ``-`` before it; by default the newest
        come first.
    :param filters: see ``VoucherFilters``.
    """
    return _vouchers({"limit": limit, "page": page, "order": order, **api_filters(filters, VoucherFilters)})


def all_vouchers(*, order: str = "created_at", **filters: Unpack[VoucherFilters]) -> Listing[VoucherList, Voucher]:
    """
    List all vouchers, page by page.

    Ordered by ``created_at`` there may be any number: the API has no cursor here, but its filter by that time serves as
    one. Otherwise at most 9,900, the most that page numbers reach.

    :param order: see ``list_vouchers``.
    :param filters: see ``VoucherFilters``.
    :raises VoucherifyUnexpectedAnswerError: the list cannot be read to its end.
    """
    query = query_of({"order": order, **api_filters(filters, VoucherFilters)})
    pages: Pages[VoucherList, Voucher] = Pages(
        _vouchers,
        lambda page: page.vouchers,
        lambda voucher: voucher.code,
        "vouchers",
        total=lambda page: page.total,
    )
    if order.removeprefix("-") != "created_at":
        return by_page(pages, query)
    descending = order.startswith("-")
    cursor = f"created_at[{'before' if descending else 'after'}]"
    return by_time(pages, query, TimeOrder("created_at", cursor, lambda voucher: voucher.created_at, descending))


def _vouchers(query: Mapping[str, Any]) -> Call[VoucherList]:
    return Call("GET", "/v1/vouchers", reader(VoucherList), safe=True, query=query_of(query))
