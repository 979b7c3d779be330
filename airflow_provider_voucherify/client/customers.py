"""Calls for single customers, lists of them and what is known about each. ``records`` describes what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Unpack

from airflow_provider_voucherify.client.calls import Call, nothing
from airflow_provider_voucherify.client.paging import Listing, Pages, TimeOrder, by_cursor, by_page, by_time
from airflow_provider_voucherify.client.records import (
    Time,
    api_filters,
    delete,
    fields_to_send,
    json_body,
    path_of,
    query_of,
    reader,
    upsert,
    warn_deprecated,
)
from airflow_provider_voucherify.models.records import (
    Customer,
    CustomerActivity,
    CustomerActivityList,
    CustomerList,
    CustomerRedeemable,
    CustomerRedeemableList,
    PermanentDeletion,
    SegmentList,
)

CUSTOMER_FIELDS = ("name", "description", "email", "phone", "birthdate", "birthday", "address", "metadata")
"""What ``PUT`` changes."""


class CustomerFilters(TypedDict, total=False):
    """
    Filters for lists of customers.

    The vendor advises against combining ``segment_id`` with other filters.
    """

    email: str
    city: str
    name: str
    segment_id: str
    created_at_before: Time
    created_at_after: Time
    updated_at_before: Time
    updated_at_after: Time


class ActivityFilters(TypedDict, total=False):
    """
    Filters for lists of a customer's activities.

    ``category`` is ``ACTION`` or ``EFFECT``; ``type`` an event's name, such as ``customer.created``.
    """

    start_date: Time
    end_date: Time
    campaign_id: str
    campaign_type: str
    category: Literal["ACTION", "EFFECT"]
    type: str


def create_customer(customer: Customer | Mapping[str, Any]) -> Call[Customer]:
    """
    Create a customer, or update the one that has the same ``id`` or ``source_id`` (``POST /v1/customers``).

    The answer does not say which of the two happened. ``birthday`` is deprecated by the vendor, use ``birthdate``: a
    model's ``birthday`` is sent only if it has no ``birthdate``.

    :param customer: ``source_id`` and the fields to set.
    """
    fields = fields_to_send(customer, ("id", "source_id", *CUSTOMER_FIELDS))
    return upsert("/v1/customers", fields, Customer)


def get_customer(customer_id: str) -> Call[Customer]:
    """
    Get a customer (``GET /v1/customers/{customerId}``).

    :param customer_id: Voucherify's ``id`` or the ``source_id``.
    """
    return Call("GET", path_of("customers", customer_id), reader(Customer), safe=True)


def update_customer(customer_id: str, customer: Customer | Mapping[str, Any]) -> Call[Customer]:
    """
    Change fields of a customer (``PUT /v1/customers/{customerId}``); the others stay as they are.

    The ids cannot be changed. For ``birthday`` see ``create_customer``.

    :param customer_id: Voucherify's ``id`` or the ``source_id``.
    :param customer: the fields to change, or a customer that was read and then changed with ``model_copy(update=…)``.
    """
    body = json_body(fields_to_send(customer, CUSTOMER_FIELDS))
    return Call("PUT", path_of("customers", customer_id), reader(Customer), safe=True, body=body)


def delete_customer(customer_id: str) -> Call[None]:
    """
    Delete a customer (``DELETE /v1/customers/{customerId}``).

    A customer that does not exist is a ``VoucherifyNotFoundError``, unless an earlier attempt of the same call was not
    answered: then that attempt deleted it.

    :param customer_id: Voucherify's ``id`` or the ``source_id``.
    """
    return delete("customers", customer_id)


def delete_customer_permanently(customer_id: str) -> Call[PermanentDeletion]:
    """
    Delete a customer and all connected data permanently (``POST /v1/customers/{customerId}/permanent-deletion``).

    It cannot be undone, and the request is never repeated automatically.

    :param customer_id: Voucherify's ``id`` or the ``source_id``.
    """
    path = path_of("customers", customer_id, "permanent-deletion")
    return Call("POST", path, reader(PermanentDeletion), safe=False)


def list_customers(
    *,
    limit: int = 100,
    page: int | None = None,
    order: str | None = None,
    starting_after: Time | None = None,
    **filters: Unpack[CustomerFilters],
) -> Call[CustomerList]:
    """
    Get one page of customers (``GET /v1/customers``).

    :param limit: 1 to 100.
    :param page: 1 to 99.
    :param order: ``created_at``, ``updated_at`` or ``source_id``, descending with a ``-`` before it; by default the
        newest come first.
    :param starting_after: a time; only customers created before it, or with ``order`` ``created_at`` or
        ``updated_at`` those created or updated after it.
    :param filters: see ``CustomerFilters``.
    """
    query = {"limit": limit, "page": page, "order": order, "starting_after": starting_after}
    return _customers({**query, **api_filters(filters, CustomerFilters)})


def all_customers(*, order: str = "created_at", **filters: Unpack[CustomerFilters]) -> Listing[CustomerList, Customer]:
    """
    List all customers, page by page.

    Ordered by ``created_at`` or ``updated_at`` there may be any number, otherwise at most 9,900, the most that page
    numbers reach. Ordered by ``updated_at``, customers that were never updated come last, in the order of creation, and
    customers that are updated meanwhile come again.

    :param order: see ``list_customers``.
    :param filters: see ``CustomerFilters``.
    :raises VoucherifyUnexpectedAnswerError: the list cannot be read to its end.
    """
    query = query_of({"order": order, **api_filters(filters, CustomerFilters)})
    pages: Pages[CustomerList, Customer] = Pages(
        _customers,
        lambda page: page.customers,
        lambda customer: customer.id,
        "customers",
        has_more=lambda page: page.has_more,
        total=lambda page: page.total,
    )
    if order.removeprefix("-") == "created_at":
        descending = order.startswith("-")
        return by_time(pages, query, TimeOrder("created_at", "starting_after", lambda c: c.created_at, descending))
    if order == "updated_at":
        return _by_update(pages, query)
    return by_page(pages, query)


def _by_update(pages: Pages[CustomerList, Customer], query: Mapping[str, Any]) -> Listing[CustomerList, Customer]:
    """
    List customers by their last update, and then those that have none.

    Such a customer has no ``updated_at``, and the vendor does not say where it comes in this order, or whether a cursor
    skips it. So these customers are listed by their time of creation, unless only updates were asked for.
    """
    order = TimeOrder[Customer]("updated_at", "starting_after", lambda c: c.updated_at or c.created_at)
    if any(name.startswith("updated_at[") for name in query):
        yield from by_time(pages, query, order)
        return
    undated: set[str] = set()
    latest = ""
    listing = by_time(pages, {**query, "updated_at[after]": _BEFORE_ALL}, order)
    page: Any = None
    while (step := _next_step(listing, page)) is not None:
        page = yield step
        for customer in step if isinstance(step, list) else ():
            latest = max(latest, customer.updated_at or "")
            undated |= set() if customer.updated_at else {customer.id}
    created = TimeOrder[Customer]("created_at", "starting_after", lambda c: c.created_at)
    listing, page = by_time(pages, {**query, "order": "created_at"}, created), None
    while (step := _next_step(listing, page)) is not None:
        if isinstance(step, list):
            step = [c for c in step if c.id not in undated and (c.updated_at is None or c.updated_at > latest)]
        page = yield step


def _next_step(listing: Listing[Any, Customer], page: Any) -> Call[Any] | list[Customer] | None:
    try:
        return listing.send(page)
    except StopIteration:
        return None


_BEFORE_ALL = "1970-01-01T00:00:00.000Z"


def list_customer_activity(
    customer_id: str,
    *,
    limit: int = 100,
    order: str | None = None,
    starting_after_id: str | None = None,
    **filters: Unpack[ActivityFilters],
) -> Call[CustomerActivityList]:
    """
    Get one page of a customer's activity (``GET /v1/customers/{customerId}/activity``).

    :param limit: 1 to 100.
    :param order: ``created_at`` or ``-created_at``.
    :param starting_after_id: id of the activity before the page.
    :param filters: see ``ActivityFilters``.
    """
    query = {"limit": limit, "order": order, "starting_after_id": starting_after_id}
    return _activity(customer_id, {**query, **api_filters(filters, ActivityFilters)})


def all_customer_activity(
    customer_id: str, *, order: str | None = None, **filters: Unpack[ActivityFilters]
) -> Listing[CustomerActivityList, CustomerActivity]:
    """
    List all of a customer's activity, page by page.

    :param order: ``created_at`` or ``-created_at``.
    :param filters: see ``ActivityFilters``.
    :raises VoucherifyUnexpectedAnswerError: the list cannot be read to its end.
    """
    pages: Pages[CustomerActivityList, CustomerActivity] = Pages(
        lambda query: _activity(customer_id, query),
        lambda page: page.data,
        lambda activity: activity.id,
        "activities",
        has_more=lambda page: page.has_more,
    )
    query = query_of({"order": order, **api_filters(filters, ActivityFilters)})
    return by_cursor(pages, query, lambda page: page.more_starting_after)


def list_customer_activities(
    customer_id: str,
    *,
    limit: int = 100,
    order: str | None = None,
    starting_after: Time | None = None,
    starting_after_id: str | None = None,
    campaign_type: str | None = None,
    campaign_id: str | None = None,
    product_id: str | None = None,
    start_date: Time | None = None,
    end_date: Time | None = None,
) -> Call[CustomerActivityList]:
    """
    Get one page of a customer's activities the old way (``GET /v1/customers/{customerId}/activities``).

    Deprecated by the vendor; warns with ``DeprecationWarning``. Use ``list_customer_activity``.
    """
    warn_deprecated("GET /v1/customers/{customerId}/activities is deprecated by Voucherify; use list_customer_activity")
    query = {
        "limit": limit,
        "order": order,
        "starting_after": starting_after,
        "starting_after_id": starting_after_id,
        "campaign_type": campaign_type,
        "campaign_id": campaign_id,
        "product_id": product_id,
        "start_date": start_date,
        "end_date": end_date,
    }
    path = path_of("customers", customer_id, "activities")
    return Call("GET", path, reader(CustomerActivityList), safe=True, query=query_of(query))


def list_customer_segments(customer_id: str) -> Call[SegmentList]:
    """
    List the segments that a customer belongs to (``GET /v1/customers/{customerId}/segments``).

    For a customer that does not exist Voucherify returns the segments that it would belong to, not a 404.
    """
    return Call("GET", path_of("customers", customer_id, "segments"), reader(SegmentList), safe=True)


def list_customer_redeemables(
    customer_id: str,
    *,
    limit: int = 100,
    order: str | None = None,
    starting_after_id: str | None = None,
    filters: Mapping[str, Any] | None = None,
) -> Call[CustomerRedeemableList]:
    """
    Get one page of the vouchers that a customer holds (``GET /v1/customers/{customerId}/redeemables``).

    :param limit: 1 to 100.
    :param order: ``id`` or ``-id``.
    :param starting_after_id: id of the redeemable before the page.
    :param filters: conditions in the vendor's language, e.g. ``{"holder_role": {"conditions": {"$is": "OWNER"}}}``.
    """
    query = {"limit": limit, "order": order, "starting_after_id": starting_after_id, "filters": filters}
    return _redeemables(customer_id, query)


def all_customer_redeemables(
    customer_id: str, *, order: str | None = None, filters: Mapping[str, Any] | None = None
) -> Listing[CustomerRedeemableList, CustomerRedeemable]:
    """
    List all vouchers that a customer holds, page by page; see ``list_customer_redeemables``.

    :raises VoucherifyUnexpectedAnswerError: the list cannot be read to its end.
    """
    pages: Pages[CustomerRedeemableList, CustomerRedeemable] = Pages(
        lambda query: _redeemables(customer_id, query),
        lambda page: page.data,
        lambda redeemable: redeemable.id,
        "redeemables",
        has_more=lambda page: page.has_more,
    )
    query = query_of({"order": order, "filters": filters})
    return by_cursor(pages, query, lambda page: page.more_starting_after)


def update_customers_consents(customer_id: str, consents: Mapping[str, bool]) -> Call[None]:
    """
    Set a customer's consents (``PUT /v1/customers/{customerId}/consents``).

    Voucherify removed this endpoint from its description in September 2024, so it warns with ``DeprecationWarning``.
    It is sent all the same, and what Voucherify answers is passed on: nothing, or an error.

    :param consents: id of each consent to whether it is given; ``{"unsubscribed": True}`` denies all.
    """
    warn_deprecated("PUT /v1/customers/{customerId}/consents was removed by Voucherify in 2024")
    path, body = path_of("customers", customer_id, "consents"), json_body(dict(consents))
    return Call("PUT", path, nothing, safe=True, body=body, empty=True)


def _customers(query: Mapping[str, Any]) -> Call[CustomerList]:
    return Call("GET", "/v1/customers", reader(CustomerList), safe=True, query=query_of(query))


def _activity(customer_id: str, query: Mapping[str, Any]) -> Call[CustomerActivityList]:
    path = path_of("customers", customer_id, "activity")
    return Call("GET", path, reader(CustomerActivityList), safe=True, query=query_of(query))


def _redeemables(customer_id: str, query: Mapping[str, Any]) -> Call[CustomerRedeemableList]:
    path = path_of("customers", customer_id, "redeemables")
    return Call("GET", path, reader(CustomerRedeemableList), safe=True, query=query_of(query))
