"""Rows to records, one by one, once ``mapping`` has decided where each column goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_provider_voucherify.models.endpoints import Field
from airflow_provider_voucherify.models.errors import PortableError
from airflow_provider_voucherify.sync.rows.metadata_rules import METADATA_VALIDATION_FAILED, RefusedMetadataError
from airflow_provider_voucherify.sync.rows.values import (
    Converter,
    RefusedValueError,
    is_missing,
    refused_member,
    to_string,
)

Row = Sequence[Any]
Record = dict[str, Any]


class RefusedRowError(PortableError):
    """
    A row that cannot become a record.

    :param key: kind of the reason, for counting: ``missing_key``, ``invalid_value``, ``nothing_to_send``,
        ``unknown_field``, ``metadata_validation_failed`` or ``record_too_large``.
    """

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where one column goes.

    :param column: its index in a row.
    :param label: its name in errors.
    :param path: path of the field: one name, or those of an object and its member.
    :param field: the description of the field; None for a member of metadata.
    :param convert: turns a present value into JSON; returns None if, as for a missing value, nothing is sent.
    :param send_null: whether a missing value is sent as ``null``.
    :param checked: whether ``convert`` refuses more than values without a JSON form of the field's type.
    """

    column: int
    label: str
    path: tuple[str, ...]
    field: Field | None
    convert: Converter
    send_null: bool
    checked: bool = False


@dataclass(frozen=True)
class RecordBuilder:
    """
    Turns rows of one list of columns into records of one endpoint, row by row, and says what is wrong with one.

    Members come in the order of the columns, the key first, whichever values are missing: equal rows are equal bytes.

    :param key: the record's key field.
    :param key_column: the index of its value in a row.
    :param targets: where the other columns go.
    :param required: names of the fields other than the key that a record must have.
    """

    key: str
    key_column: int
    targets: tuple[Target, ...]
    required: tuple[str, ...]

    @cached_property
    def objects(self) -> set[str]:
        """The objects that are made from columns; each is left out if all its members are missing."""
        whole = {target.path for target in self.targets if len(target.path) == 1}
        return {target.path[0] for target in self.targets if len(target.path) == 2 and target.path[:1] not in whole}

    def record_id(self, row: Row) -> str | None:
        """Return the row's id; None if it has none that could be sent."""
        try:
            return self._id(row)
        except RefusedRowError:
            return None

    def build(self, row: Row) -> Record:
        """
        Make the record of a row.

        :raises RefusedRowError: saying which column and why.
        """
        record: Record = {self.key: self._id(row)}
        objects = self.objects
        for target in self.targets:
            value = row[target.column]
            if target.path[0] in objects:
                record.setdefault(target.path[0], {})
            try:
                converted = None if is_missing(value) else target.convert(value)
                if converted is not None or target.send_null:
                    _put(record, target.path, converted)
            except RefusedMetadataError as why:
                raise RefusedRowError(METADATA_VALIDATION_FAILED, str(why)) from None
            except RefusedValueError as why:
                raise RefusedRowError("invalid_value", f"{target.label} {why}{refused_member(value, why)}") from None
        for name in objects:
            if not record[name]:
                del record[name]
        for name in self.required:
            if not record.get(name):
                raise RefusedRowError("nothing_to_send", f"{name} is empty, there is nothing to update")
        return record

    def _id(self, row: Row) -> str:
        value = row[self.key_column]
        if is_missing(value):
            raise RefusedRowError("missing_key", f"{self.key} is missing")
        try:
            text = to_string(value)
        except RefusedValueError as why:
            raise RefusedRowError("missing_key", f"{self.key} {why}") from None
        if not text.strip():
            raise RefusedRowError("missing_key", f"{self.key} is empty")
        if "\0" in text:
            raise RefusedRowError("missing_key", f"{self.key} has the character NUL, which no text of a database has")
        return text


def _put(record: Record, path: tuple[str, ...], value: Any) -> None:
    """Set a value at a path; an object set earlier is extended, not replaced."""
    for name in path[:-1]:
        inner = record.get(name)
        if not isinstance(inner, dict):
            inner = record[name] = {}
        record = inner
    last = path[-1]
    if isinstance(value, dict) and isinstance(record.get(last), dict):
        record[last] = {**value, **record[last]}
    elif not (value is None and isinstance(record.get(last), dict)):
        record[last] = value
