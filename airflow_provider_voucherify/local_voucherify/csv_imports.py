"""
CSV imports: what a file's columns mean, and what becomes of its rows.

The columns, the required ones, what happens to objects that exist, and the shape of the result are the vendor's
(importCSV pages and async actions of the API description). Ours, if it is silent: the reasons for a row that lacks a
required value or has too few or too many; that text outside UTF-8 is read with replacement characters.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_voucherify.local_voucherify.actions import ImportOutcome
from airflow_provider_voucherify.local_voucherify.endpoints import CsvImportEndpoint
from airflow_provider_voucherify.local_voucherify.errors import invalid_payload
from airflow_provider_voucherify.local_voucherify.metadata_schema import (
    Definition,
    MetadataSchema,
    metadata_violation,
    object_name,
)
from airflow_provider_voucherify.local_voucherify.processing import with_both_birthdates
from airflow_provider_voucherify.local_voucherify.records import OBJECT_KINDS, RecordStore, new_anonymous_key
from airflow_provider_voucherify.local_voucherify.validation import Payload

_NO_FILE = "Payload should have required property 'file'"
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))')
_FILE_PART = re.compile(rb'content-disposition:[^\r\n]*\bname="?file"?', re.IGNORECASE)

_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "customers": {
        "id": "id",
        "name": "name",
        "email": "email",
        "phone": "phone",
        "birthdate": "birthdate",
        "source_id": "source_id",
        "description": "description",
        "address_line_1": "address.line_1",
        "address_line_2": "address.line_2",
        "address_postal_code": "address.postal_code",
        "address_city": "address.city",
        "address_state": "address.state",
        "address_country": "address.country",
        "postal_code": "address.postal_code",
        "city": "address.city",
        "state": "address.state",
        "country": "address.country",
    },
    "products": {name: name for name in ("name", "source_id", "price", "attributes", "image_url")},
    "skus": {name: name for name in ("product_id", "sku", "source_id", "price", "image_url", "attributes")},
}
"""Column, in lower case, to field; any other column is metadata."""

_UPDATED = {"products": {"name"}, "skus": {"sku", "price"}}
"""The fields that an import changes of an object that exists; of a customer it overwrites all."""


class _RowError(Exception):
    """A row cannot be imported; the message is its ``reason``."""


@dataclass(frozen=True, slots=True)
class CsvPayload:
    """The rows of a file, without its header."""

    rows: list[list[str]]
    header: list[str]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        """Yield each row as a dict; None for one with too few or too many values."""
        for row in self.rows:
            yield dict(zip(self.header, row, strict=True)) if len(row) == len(self.header) else None


def read_import(content_type: str, body: bytes) -> CsvPayload:
    """Return the rows of the form's ``file``; raise the documented 400 for a body that has none."""
    boundary = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or boundary is None:
        raise invalid_payload(_NO_FILE)
    for part in body.split(b"--" + (boundary[1] or boundary[2]).encode())[1:-1]:
        head, blank_line, content = part.partition(b"\r\n\r\n")
        if blank_line and _FILE_PART.search(head):
            return _rows(content.removesuffix(b"\r\n"))
    raise invalid_payload(_NO_FILE)


def _rows(content: bytes) -> CsvPayload:
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    lines = [line for line in csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline="")) if line]
    return CsvPayload(lines[1:], lines[0] if lines else [])


@dataclass(frozen=True, slots=True)
class CsvRows:
    """
    Imports rows.

    :param stores: the objects of each resource.
    :param schemas: metadata schemas by the name of their object.
    :param at: the time of the import, as the API writes it.
    """

    stores: Mapping[str, RecordStore]
    schemas: Mapping[str, MetadataSchema]
    at: str

    def imported(self, endpoint: CsvImportEndpoint, rows: Payload, *, apply: bool) -> ImportOutcome:
        """Return what becomes of a file's rows, and store those that are right (unless told not to)."""
        failed: list[dict[str, Any]] = []
        for number, row in enumerate(rows, start=1):
            try:
                fields = self._fields(endpoint, row)
                if apply:
                    self._store(endpoint.resource, fields)
            except _RowError as why:
                failed.append(_failure(endpoint.resource, number, row, str(why)))
        done, kind = len(rows) - len(failed), OBJECT_KINDS[endpoint.resource].name
        return ImportOutcome(done, failed, f"{done} {kind}(s) imported successfully, {len(failed)} failed.")

    def _fields(self, endpoint: CsvImportEndpoint, row: dict[str, str] | None) -> dict[str, Any]:
        if row is None:
            raise _RowError("Invalid number of columns")
        columns, fields = _COLUMNS[endpoint.resource], dict[str, Any]()
        metadata: dict[str, Any] = {}
        schema = self.schemas.get(object_name(endpoint.resource))
        for name, text in row.items():
            target = columns.get(name.lower())
            if not text:
                continue
            if target is None:
                metadata[name] = _typed(text, schema.definitions.get(name) if schema else None)
            elif "." in target:
                fields.setdefault("address", {})[target.removeprefix("address.")] = text
            else:
                fields[target] = _FIELDS.get((endpoint.resource, target), str)(text)
        for name in endpoint.required:
            if name not in fields:
                raise _RowError(f"{name} is required")
        key = fields.get("source_id")
        if schema is not None:
            creates = key not in self.stores[endpoint.resource]
            if violation := metadata_violation(metadata, schema, self.schemas, creates=creates):
                raise _RowError(violation)
        return {**fields, "metadata": metadata} if metadata else fields

    def _store(self, resource: str, fields: dict[str, Any]) -> None:
        store = self.stores[resource]
        known = store.key_of(fields.pop("id", ""))
        key = known or fields.pop("source_id", None) or new_anonymous_key()
        if resource == "skus":
            product = self.stores["products"].find(fields["product_id"])
            if product is None:
                raise _RowError(f"Cannot find product with id {fields['product_id']}")
            fields["product_id"] = product["id"]
        if key in store and resource in _UPDATED:
            changes = {name: value for name, value in fields.items() if name in _UPDATED[resource]}
            store.update(key, changes, "merge", self.at)
        else:
            store.replace(key, with_both_birthdates(fields), self.at)


def _failure(resource: str, number: int, row: dict[str, str] | None, reason: str) -> dict[str, Any]:
    """Return an entry of ``failed``, with the members that the vendor's examples have for the resource."""
    ids = {name.lower(): value for name, value in (row or {}).items()}
    if resource == "customers":
        return {"source_id": ids.get("source_id", ""), "row": number, "reason": reason}
    if resource == "products" and ids.get("source_id"):
        return {"row": number, "source_id": ids["source_id"], "reason": reason}
    return {"row": number, "reason": reason}


def _price(text: str) -> int:
    """Read a price in major units."""
    try:
        return round(float(text) * 100)
    except ValueError:
        raise _RowError(f"price: must be a number (actual value is '{text}')") from None


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _attributes(text: str) -> dict[str, Any]:
    """Read the attributes of a SKU: JSON, or what the vendor's template has, which is JSON with single quotes."""
    read = None
    for written in (text, text.replace("'", '"')):
        with suppress(ValueError):
            read = json.loads(written)
            break
    if not isinstance(read, dict):
        raise _RowError("attributes: must be an object")
    return read


_FIELDS = {
    ("products", "price"): _price,
    ("products", "attributes"): _listed,
    ("skus", "price"): _price,
    ("skus", "attributes"): _attributes,
}


def _typed(text: str, definition: Definition | None) -> Any:
    """Return a value of the type that the schema has for it; text that is none of that type stays text."""
    if definition is None:
        return text
    if definition.array:
        return [_typed_one(item, definition.type) for item in _listed(text)]
    return _typed_one(text, definition.type)


def _typed_one(text: str, type_name: str) -> Any:
    if type_name == "boolean":
        return {"true": True, "false": False, "null": None}.get(text, text)
    if type_name == "number":
        try:
            return float(text) if "." in text else int(text)
        except ValueError:
            return text
    return text
