"""
What an export may ask for: objects, fields, orders and filters of the contract, and how a wrong request is refused.

Two things are in the vendor's text alone: the fields of an export that names none, and with what a filter that the
contract does not name may begin. Ours, since it is nowhere said: that a word that is unknown is refused as
``invalid_payload`` wherever the vendor's own key for it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_voucherify.local_voucherify import errors
from airflow_provider_voucherify.local_voucherify.contract import contract

METADATA = "metadata"
PREFIX = "metadata."
JUNCTIONS = ("and", "or")
CONDITIONS = frozenset((
    "$is", "$is_not", "$in", "$not_in", "$has_value", "$is_unknown", "$contains", "$not_contain", "$starts_with",
    "$ends_with", "$after", "$before", "$more_than", "$less_than", "$more_than_equal", "$less_than_equal",
))  # fmt: skip
"""Those of the contract that are understood here: all but those that count, or look from today into past and future."""

_DEFAULTS = {
    "order": "id source_id status",
    "voucher": "code voucher_type value discount_type",
    "publication": "voucher_code customer_id date channel",
    "redemption": "id object voucher_code customer_id date result",
    "customer": "name source_id",
    "points_expiration": "id campaign_id voucher_id status expires_at points",
    "voucher_transactions": "id type source_id reason source balance amount created_at",
    "product": "id name price image_url source_id attributes created_at",
    "sku": "id sku product_id currency price image_url source_id attributes created_at",
}
"""Without ``code`` of publications and ``status`` of transactions, which are no fields by the contract."""

_FILTER_PREFIXES = {
    "voucher": ("metadata.", "redemption."),
    "customer": (
        "metadata.",
        "address.",
        "summary.",
        "loyalty.",
        "loyalty_tier.",
        "loyalty_points.",
        "system_metadata.",
    ),
    "publication": ("metadata.",),
    "redemption": ("metadata.",),
    "order": ("metadata.",),
    "product": ("metadata.", "attributes."),
    "sku": ("metadata.", "attributes."),
}


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """
    What the exports of one kind of object may ask for.

    :param fields: without single properties of the metadata.
    :param filters: names of filters; others may begin with one of ``prefixes``.
    """

    name: str
    fields: tuple[str, ...]
    default_fields: tuple[str, ...]
    orders: tuple[str, ...]
    filters: frozenset[str]
    prefixes: tuple[str, ...]

    def has_field(self, name: str) -> bool:
        """Whether a field can be exported."""
        return name in self.fields or (METADATA in self.fields and name.startswith(PREFIX) and name != PREFIX)

    def has_filter(self, name: str) -> bool:
        """Whether there is a filter of that name."""
        return name in self.filters or (name.startswith(self.prefixes) and name not in self.prefixes)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """
    An export as it was asked for.

    :param order: None if none was given.
    :param filters: conditions by the name of the filter, without the junction.
    :param shown: ``parameters`` as the API shows them.
    """

    exported: ExportedObject
    fields: tuple[str, ...]
    order: str | None
    junction: str
    filters: Mapping[str, Mapping[str, list[Any]]]
    campaign_id: str | None
    shown: Mapping[str, Any]


def _objects() -> dict[str, ExportedObject]:
    definitions = contract()["definitions"]
    found = {}
    for base in definitions["ExportsCreateRequestBody"]["anyOf"]:
        definition = base["$ref"].rpartition("/")[2]
        (name,) = definitions[definition]["properties"]["exported_object"]["enum"]
        kind = definition.removesuffix("Base")
        fields = definitions[f"{kind}Fields"]
        fields = fields if "enum" in fields else fields["anyOf"][0]
        filters = set(definitions[f"{kind}Filters"]["properties"]) - {"junction"}
        if "x-source" in definitions[f"{kind}Filters"]:  # the SDK does not name these filters: ours are the fields
            filters |= set(fields["enum"]) - {METADATA}
        found[name] = ExportedObject(
            name,
            tuple(fields["enum"]),
            tuple(_DEFAULTS[name].split()),
            tuple(definitions[f"{kind}Order"]["enum"]),
            frozenset(filters),
            _FILTER_PREFIXES.get(name, ()),
        )
    return found


EXPORTED_OBJECTS = _objects()
"""By the value of ``exported_object``."""


def read_request(payload: Mapping[str, Any]) -> ExportRequest:
    """Read the body of ``POST /v1/exports``, or raise the documented 400."""
    _refuse_others(payload, ("exported_object", "parameters"), "")
    exported = EXPORTED_OBJECTS.get(str(payload.get("exported_object")))
    if exported is None:
        allowed = f"[ {', '.join(EXPORTED_OBJECTS)} ]"
        raise errors.invalid_payload(
            f"Property .exported_object should be equal to one of the allowed values {allowed}"
        )
    parameters = _member(payload, "parameters", dict, {})
    known = ("order", "fields", "filters", *(("campaign_id",) if exported.name == "voucher" else ()))
    _refuse_others(parameters, known, ".parameters")
    fields = _fields(exported, _member(parameters, "fields", list, []))
    order = _member(parameters, "order", str, "") or None
    if order is not None and order not in exported.orders:
        raise errors.invalid_payload("Property .parameters.order should be equal to one of the allowed values")
    filters = dict(_member(parameters, "filters", dict, {}))
    junction = filters.pop("junction", JUNCTIONS[0])
    if junction not in JUNCTIONS:
        raise errors.invalid_payload(
            "Property .parameters.filters.junction should be equal to one of the allowed values"
        )
    conditions = {name: _conditions(exported, name, filters[name]) for name in filters}
    shown = {**parameters, "fields": list(fields), "filters": {"junction": junction, **filters}}
    return ExportRequest(
        exported, fields, order, junction, conditions, _member(parameters, "campaign_id", str, None), shown
    )


def _fields(exported: ExportedObject, names: list[Any]) -> tuple[str, ...]:
    if any(not isinstance(name, str) or not exported.has_field(name) for name in names):
        raise errors.invalid_export_fields(exported.fields)
    return tuple(names) or exported.default_fields


def _conditions(exported: ExportedObject, name: str, given: Any) -> Mapping[str, list[Any]]:
    where = f".parameters.filters.{name}"
    if not exported.has_filter(name):
        raise errors.invalid_payload(f"Property {where} is not allowed")
    if not isinstance(given, dict) or not isinstance(given.get("conditions"), dict):
        raise errors.invalid_payload(f"Property {where}.conditions should be an object")
    conditions: dict[str, Any] = given["conditions"]
    for condition, values in conditions.items():
        if condition not in CONDITIONS:
            raise errors.invalid_payload(f"The local Voucherify does not know the condition {condition} of {name}")
        if not isinstance(values, list):
            raise errors.invalid_payload(f"Property {where}.conditions.{condition} should be an array")
    return conditions


def _member(of: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = of.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise errors.invalid_payload(f"Property .{name} is of the wrong type")
    return value


def _refuse_others(of: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in of:
        if name not in known:
            raise errors.invalid_payload(f"Property {where}.{name} is not allowed")
