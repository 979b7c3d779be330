"""
Checks of request bodies and of records, as strict as the contract.

A *body* that is not what the endpoint takes is refused at once (400). A *record* that is not is accepted with the
body and fails inside the async action: since August 2024 the contract has no 400 for a bulk call, and errors of single
records in the action's result. An empty JSON array of records is accepted, as no source says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from airflow_provider_voucherify.local_voucherify.contract import Field
from airflow_provider_voucherify.local_voucherify.endpoints import BulkEndpoint
from airflow_provider_voucherify.local_voucherify.errors import invalid_payload, not_enough_ids
from airflow_provider_voucherify.local_voucherify.metadata_schema import (
    MetadataSchema,
    is_iso_date,
    metadata_violation,
)

_T = TypeVar("_T")


class Payload(Protocol):
    """The records of an accepted body, in order; each is decoded only when iterated."""

    def __len__(self) -> int:
        """Return the number of records."""

    def __iter__(self) -> Iterator[Any]:
        """Yield each record as decoded JSON, of whatever type the caller sent."""


@dataclass(frozen=True, slots=True)
class RecordsPayload:
    """A body that is a JSON array. Its records stay views into the body until they are iterated."""

    raw_records: list[msgspec.Raw]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.raw_records)

    def __iter__(self) -> Iterator[Any]:
        """Yield each record as decoded JSON; None for one with a number or a character that Python cannot hold."""
        return map(_decode_record, self.raw_records)


def _decode_record(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None


@dataclass(frozen=True, slots=True)
class SharedMetadataPayload:
    """A body of ids that all get one metadata object."""

    key: str
    ids: list[Any]
    metadata: dict[str, Any]

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)

    def __iter__(self) -> Iterator[Any]:
        """Yield for each id the record that it stands for."""
        return ({self.key: record_id, "metadata": self.metadata} for record_id in self.ids)


def read_payload(endpoint: BulkEndpoint, body: bytes, *, takes_no_ids: bool = False) -> Payload:
    """
    Return the records of a request body; raise the 400 ``ApiError`` for a body that the endpoint does not take.

    :param takes_no_ids: whether an empty list of ids is accepted.
    """
    if endpoint.ids_field is None:
        return RecordsPayload(_decode(body, list[msgspec.Raw], "Payload should be an array"))
    payload = _read_shared_metadata(endpoint, endpoint.ids_field, body)
    if not payload.ids and not takes_no_ids:
        raise not_enough_ids(endpoint.ids_field, _SPECIFY_AN_ID[endpoint.resource])
    return payload


def _read_shared_metadata(endpoint: BulkEndpoint, ids_field: str, body: bytes) -> SharedMetadataPayload:
    payload = _decode(body, dict[str, Any], "Payload should be an object")
    for name in (ids_field, "metadata"):
        if name not in payload:
            raise invalid_payload(f"Payload should have required property '{name}'")
    ids, metadata = payload[ids_field], payload["metadata"]
    if not isinstance(ids, list):
        raise invalid_payload(f"Property .{ids_field} must be an array")
    if not isinstance(metadata, dict):
        raise invalid_payload("Property .metadata must be an object")
    return SharedMetadataPayload(endpoint.key, ids, metadata)


_SPECIFY_AN_ID = {
    "customers": "Specify at least 1 source_id",
    "products": "Specify at least 1 ID in source_ids.",
    "vouchers": "Specify at least 1 code in codes.",
}


def _decode(body: bytes, expected: type[_T], mismatch: str) -> _T:
    try:
        body.decode()
        return msgspec.json.decode(body, type=expected)
    except msgspec.ValidationError:
        raise invalid_payload(mismatch) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid_payload("Payload is not valid JSON") from None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a record failed: ``key``, ``message`` and ``details`` of its entry in ``result.errors``."""

    key: str
    message: str
    details: str


_TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "integer": ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "date": ("a date in the format YYYY-MM-DD", is_iso_date),
    "string_list": (
        "an array of strings",
        lambda value: isinstance(value, list) and all(isinstance(element, str) for element in value),
    ),
    "object": ("an object", lambda value: isinstance(value, dict)),
    "boolean": ("a boolean", lambda value: isinstance(value, bool)),
    "any": ("anything", lambda value: True),
}


@dataclass(frozen=True, slots=True)
class RecordRules:
    """
    What a record of one endpoint must satisfy.

    :param schema: metadata schema of the resource, None when the project has none.
    :param custom_schemas: the schemas that the definitions of ``schema`` can name.
    :param reject_unknown_fields: whether fields outside the contract fail the record.
    """

    endpoint: BulkEndpoint
    schema: MetadataSchema | None
    custom_schemas: Mapping[str, MetadataSchema]
    reject_unknown_fields: bool

    def problem(self, record: Any, *, creates: bool) -> Problem | None:
        """
        Return why a record fails, None when it does not.

        :param record: decoded JSON of any type.
        :param creates: whether the record would create its object.
        """
        details = self._shape_violation(record)
        if details is not None:
            return Problem("invalid_payload", "Invalid payload", details)
        if self.schema is not None:
            details = metadata_violation(record.get("metadata", {}), self.schema, self.custom_schemas, creates=creates)
            if details is not None:
                return Problem("metadata_validation_failed", "Metadata validation failed", details)
        return None

    def _shape_violation(self, record: Any) -> str | None:
        if not isinstance(record, dict):
            return "Payload should be an object"
        for name in self.endpoint.required:
            if name not in record:
                return f"Payload should have required property '{name}'"
        return _fields_violation(record, self.endpoint.fields, self.reject_unknown_fields, prefix=".")


def _fields_violation(
    record: dict[str, Any], fields: Mapping[str, Field], reject_unknown_fields: bool, prefix: str
) -> str | None:
    for name, value in record.items():
        field = fields.get(name)
        if field is None:
            if reject_unknown_fields:
                return f"Property {prefix}{name} is not allowed"
            continue
        if value is None and field.nullable:
            continue
        type_name, fits = _TYPES[field.type]
        if not fits(value):
            return f"Property {prefix}{name} must be {type_name}"
        if field.fields:
            violation = _fields_violation(value, field.fields, reject_unknown_fields, f"{prefix}{name}.")
            if violation is not None:
                return violation
    return None
