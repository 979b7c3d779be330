"""
Customers, products and vouchers one by one, and lists of them: what each request does to the project. No HTTP here.

Fields, orders and limits are the contract's; filters and errors are those of the vendor's pages
(docs.voucherify.io/api-reference). Ours, if both are silent: an unknown ``id`` in a POST is a 404; ties of an order
come in the order of creation; the only condition of ``filters`` that is understood is ``$is``; what was never updated
has no part in what is asked for by a time of update, and comes first in that order. Against the contract, a voucher
without a type, as one of the vendor's tests creates it, has the type that its fields belong to.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

from airflow_provider_voucherify.local_voucherify import errors
from airflow_provider_voucherify.local_voucherify.actions import wire_time
from airflow_provider_voucherify.local_voucherify.contract import Field
from airflow_provider_voucherify.local_voucherify.endpoints import (
    CHANGES,
    CREATIONS,
    LIST_ACTIVITY,
    LISTS,
    UPDATE_ENDPOINTS,
    with_null_in_addresses,
)
from airflow_provider_voucherify.local_voucherify.metadata_schema import parse_iso_datetime
from airflow_provider_voucherify.local_voucherify.processing import with_both_birthdates
from airflow_provider_voucherify.local_voucherify.records import RecordStore, new_anonymous_key
from airflow_provider_voucherify.local_voucherify.state import Project

Query = Mapping[str, str]
Wire = dict[str, Any]

_TIMES = ("created_at", "updated_at")
_DEFAULT_ORDER = {"customers": "-created_at", "products": "created_at", "vouchers": "-created_at"}
_VOUCHER_TYPES = {"DISCOUNT_VOUCHER": "discount", "GIFT_VOUCHER": "gift", "LOYALTY_CARD": "loyalty_card"}


@dataclass(frozen=True, slots=True)
class SingleRecords:
    """The objects of one resource, one by one and listed."""

    project: Project
    resource: str

    @property
    def _store(self) -> RecordStore:
        return self.project.records(self.resource)

    def create(self, fields: Wire) -> Wire:
        """Create an object, or update the one that has its ``id`` or ``source_id``."""
        with self.project.lock:
            store = self._store
            key = fields.get("source_id") or new_anonymous_key()
            if isinstance(fields.get("id"), str):
                key = self._key(fields["id"])
            self._check(fields, creates=key not in store)
            return self._write(key, fields)

    def create_voucher(self, code: str, fields: Wire) -> Wire:
        """Create a voucher; one that exists is the documented 409."""
        with self.project.lock:
            if code in self._store:
                raise errors.duplicate_found("voucher", code)
            fields = {"type": next((t for t, f in _VOUCHER_TYPES.items() if f in fields), None), **fields}
            needed = _VOUCHER_TYPES.get(fields["type"] or "")
            if needed is None:
                raise errors.invalid_payload("Payload should have required property 'type'")
            if needed not in fields:
                raise errors.invalid_payload(f"Payload should have required property '{needed}'")
            self._check(fields, creates=True)
            return self._write(code, {name: fields[name] for name in fields.keys() & CREATIONS["vouchers"].fields})

    def update(self, identifier: str, fields: Wire) -> Wire:
        """Change an object; fields that it cannot change are skipped."""
        with self.project.lock:
            key = self._key(identifier)
            self._check(fields, creates=False)
            if self.resource == "vouchers":
                fields = {name: fields[name] for name in fields.keys() & CHANGES["vouchers"].fields}
            return self._write(key, fields)

    def get(self, identifier: str) -> Wire:
        """Return an object."""
        return self._store[self._key(identifier)]

    def remove(self, identifier: str) -> None:
        """Delete an object."""
        with self.project.lock:
            key = self._key(identifier)
            self._store.remove(key)
            self.project.history.forget(key)

    def remove_permanently(self, identifier: str) -> Wire:
        """Delete a customer and what belongs to it, and say how much that was."""
        with self.project.lock:
            key = self._key(identifier)
            customer_id = self._store[key]["id"]
            events = self.project.history.forget(key)
            self._store.remove(key)
        counts = {"events": events, "customer_events": events, "daily_events": 0, "segments": 0}
        return {
            "id": f"del_{secrets.token_hex(12)}",
            "created_at": wire_time(self.project.now()),
            "related_object_id": customer_id,
            "related_object": "customer",
            "status": "DONE",
            "data_json": {**counts, "orders": 0, "order_events": 0, "customer": 1},
            "object": "pernament_deletion",
        }

    def page(self, query: Query, filters: Mapping[str, list[str]]) -> Wire:
        """Return a page of the list; ``filters`` are the query's parameters with all their values."""
        with self.project.lock:
            store = self._store
            checks = list(self._checks(query, filters))
            records = [shown for shown in (store[key] for key in store) if all(check(shown) for check in checks)]
        listing = LISTS[self.resource]
        limit = integer(query, "limit", 10, *listing.bounds("limit"))
        number = integer(query, "page", 1, 1, self._last_page or listing.bounds("page")[1])
        order = query.get("order", _DEFAULT_ORDER[self.resource])
        field = order.removeprefix("-")
        if order not in listing.choices("order"):
            raise errors.invalid_query_params("Property .order must be one of the allowed values")
        total = len(records)
        records.sort(key=lambda shown: str(shown.get(field) or ""), reverse=order.startswith("-"))
        if (after := time(query, "starting_after")) is not None and field in _TIMES:
            dated = [s for s in records if s.get(field) is not None]
            records = [s for s in dated if (s[field] < after if order.startswith("-") else s[field] > after)]
        shown = records[(number - 1) * limit : number * limit]
        answer = {"object": "list", "data_ref": self.resource, self.resource: shown, "total": total}
        return {**answer, "has_more": number * limit < len(records)} if self.resource == "customers" else answer

    def activity(self, identifier: str, query: Query) -> list[Wire]:
        """Return what happened to a customer, filtered and in order, from the cursor on."""
        with self.project.lock:
            events = list(self.project.history.events.get(self._key(identifier), ()))
        since, until = time(query, "start_date"), time(query, "end_date")
        order = query.get("order", "-created_at")  # the older list takes other orders too, which make no sense there
        if order not in LIST_ACTIVITY.choices("order"):
            raise errors.invalid_query_params("Property .order must be one of the allowed values")
        events = [
            event
            for event in (reversed(events) if order.startswith("-") else events)
            if event["type"] == query.get("type", event["type"])
            and (since is None or event["created_at"] >= since)
            and (until is None or event["created_at"] <= until)
        ]
        return after_id(events, query)

    def segments(self, identifier: str) -> list[Wire]:
        """Return the segments of a customer; those of one that does not exist are none."""
        key = self._store.key_of(identifier)
        return [segment.wire() for segment in self.project.segments.values() if key in segment.customers]

    def redeemables(self, identifier: str, query: Query) -> list[Wire]:
        """Return the vouchers that a customer holds, from the cursor on."""
        customer_id = self.get(identifier)["id"]
        vouchers = self.project.records("vouchers")
        held = [v for v in (vouchers[code] for code in vouchers) if v.get("holder_id") == customer_id]
        shown = [
            {
                "id": f"rh_{voucher['id'].removeprefix('v_')}",
                "created_at": voucher["created_at"],
                "redeemable_id": voucher["id"],
                "redeemable_object": "voucher",
                "customer_id": customer_id,
                "holder_role": "OWNER",
                "campaign_id": voucher.get("campaign_id"),
                "campaign_type": None,
                "voucher_type": voucher["type"],
                "redeemable": {"type": "voucher", "voucher": voucher, "status": "ACTIVE"},
            }
            for voucher in held
        ]
        shown.sort(key=lambda one: one["id"], reverse=query.get("order", "id").startswith("-"))
        return after_id(shown, query)

    @property
    def _last_page(self) -> int | None:
        options = self.project.options
        return {"customers": options.last_page_of_customers, "products": options.last_page_of_products}.get(
            self.resource
        )

    def _key(self, identifier: str) -> str:
        store = self._store
        key = store.key_of(identifier)
        if key is None:
            raise errors.not_found(store.kind.name, identifier)
        return key

    def _check(self, fields: Wire, *, creates: bool) -> None:
        rules = self.project.rules(replace(UPDATE_ENDPOINTS[self.resource], required=(), fields=self._fields))
        if self.resource == "vouchers":
            rules = replace(rules, reject_unknown_fields=False)
        problem = rules.problem(fields, creates=creates)
        if problem is not None:
            raise errors.refused(problem.key, problem.message, problem.details)

    @property
    def _fields(self) -> Mapping[str, Field]:
        """Of a voucher only the outer members: one of the vendor's tests sends a null within ``redemption``."""
        fields = with_null_in_addresses(CREATIONS[self.resource].fields)
        return {name: replace(f, fields={}) for name, f in fields.items()} if self.resource == "vouchers" else fields

    def _write(self, key: str, fields: Wire) -> Wire:
        store, at = self._store, wire_time(self.project.now())
        known = CREATIONS[self.resource].fields.keys() - {"id", store.kind.key}
        changes = {name: value for name, value in fields.items() if name in known}
        if self.resource == "customers":
            self.project.history.add(key, "customer.updated" if key in store else "customer.created", at)
        store.update(key, with_both_birthdates(changes), self.project.options.metadata_mode, at)
        return {name: value for name, value in store[key].items() if name != "skus"}

    def _checks(self, query: Query, filters: Mapping[str, list[str]]) -> Iterable[Callable[[Wire], bool]]:
        fields = {"customers": ("email", "name"), "vouchers": ("category", "campaign", "campaign_id", "code")}
        for name in fields.get(self.resource, ()):
            if (wanted := query.get(name)) is not None:
                yield lambda shown, name=name, wanted=wanted: shown.get(name) == wanted  # type: ignore[misc]
        for name in _TIMES if self.resource != "products" else ():
            if (before := time(query, f"{name}[before]")) is not None:
                yield lambda shown, name=name, before=before: "" < (shown.get(name) or "") < before  # type: ignore[misc]
            if (after := time(query, f"{name}[after]")) is not None:
                yield lambda shown, name=name, after=after: (shown.get(name) or "") > after  # type: ignore[misc]
        if self.resource == "customers":
            yield from self._customer_checks(query)
        elif self.resource == "vouchers":
            yield from self._voucher_checks(query, filters)
        else:
            since, until = time(query, "start_date"), time(query, "end_date")
            yield lambda shown: (since or "") <= shown["created_at"] <= (until or "~")

    def _customer_checks(self, query: Query) -> Iterable[Callable[[Wire], bool]]:
        if (city := query.get("city")) is not None:
            yield lambda shown: (shown["address"] or {}).get("city") == city
        if (segment_id := query.get("segment_id")) is not None:
            segment = self.project.segments.get(segment_id)
            members = {self._store[key]["id"] for key in segment.customers if key in self._store} if segment else set()
            yield lambda shown: shown["id"] in members

    def _voucher_checks(self, query: Query, filters: Mapping[str, list[str]]) -> Iterable[Callable[[Wire], bool]]:
        if (holder := query.get("customer")) is not None:
            customer = self.project.records("customers").find(holder)
            yield lambda shown: customer is not None and shown.get("holder_id") == customer["id"]
        if ids := filters.get("ids"):
            yield lambda shown: shown["id"] in ids or shown["code"] in ids
        for name, wanted in query.items():
            if name.startswith("filters["):
                path, _, condition = name.removeprefix("filters[").removesuffix("]").partition("][conditions][")
                if condition != "$is":
                    raise errors.invalid_query_params(f"The local Voucherify does not know the condition {condition}")
                yield lambda shown, path=path, wanted=wanted: _member(shown, path) == wanted  # type: ignore[misc]


def integer(query: Query, name: str, default: int, least: int, greatest: int) -> int:
    """Read a number of the query, or raise the documented 400."""
    text = query.get(name, str(default))
    if not text.isdecimal() or not least <= int(text) <= greatest:
        raise errors.invalid_query_params(f"Property .{name} must be an integer between {least} and {greatest}")
    return int(text)


def time(query: Query, name: str) -> str | None:
    """Read a time of the query as the API writes it, or raise the documented 400."""
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = parse_iso_datetime(text)
    except ValueError:
        details = f"Property .{name} cannot be recognized as a ISO-8601 compliant date"
        raise errors.invalid_query_params(details) from None
    return wire_time((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def after_id(shown: list[Wire], query: Query) -> list[Wire]:
    """Return what comes after the query's cursor."""
    cursor = query.get("starting_after_id")
    if cursor is None:
        return shown
    places = [place for place, one in enumerate(shown) if one["id"] == cursor]
    if not places:
        raise errors.invalid_query_params(f"Property .starting_after_id is unknown: {cursor}")
    return shown[places[0] + 1 :]


def _member(shown: Wire, path: str) -> str:
    value: Any = shown
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return str(value).lower() if isinstance(value, bool) else str(value)
