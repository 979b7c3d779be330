"""
Many rows at once: checked and encoded in C, a chunk at a time.

Building a dict for every row and checking every value in Python would take most of a sync's processor time. Instead the
mapping is compiled once per list of columns: into a type that ``msgspec`` checks a whole chunk against, and into one
expression that makes the records as structs, which need no dicts and are encoded together. A row that does not fit is
left to ``mapping.RecordBuilder``, which says why in plain words. The encoded bytes are exactly those that encoding the
builder's records would give.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import GenericAlias
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from airflow_provider_voucherify.models.endpoints import Field
from airflow_provider_voucherify.sync.rows.record_builder import RecordBuilder, Row, Target
from airflow_provider_voucherify.sync.rows.values import RefusedValueError, to_object, to_string

_Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Number = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_Scalar = str | _Integer | _Number | bool

encode_json = msgspec.json.Encoder(decimal_format="number").encode
_encode_lines = msgspec.json.Encoder(decimal_format="number").encode_lines


class UnfitRowsError(Exception):
    """At least one of the rows does not fit the type that all are encoded with."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """
    Some rows' items.

    :param lines: the items, each followed by a line break.
    :param ids: of the items' records.
    :param keys: the rows' values for the ids, if they are text or whole numbers, which can be compared.
    :param made_of: what each item was made of, for ``RowsEncoder.fields_key``; the item itself if no encoder made it.
    """

    lines: bytes
    ids: Sequence[str]
    keys: Sequence[Any] | None
    made_of: Sequence[Any]


class RowsEncoder:
    """
    Encodes the rows of one list of columns for one endpoint.

    Which columns hold plain values (text, numbers, booleans, which ``msgspec`` checks and encodes by itself) and which
    have to be converted one by one (such as timestamps) is learned from the rows.

    :param builder: has the targets of the columns.
    :param columns: how many values a row has.
    :param ids_only: the items are bare ids and not records.
    :ivar fields_key: makes a key of one of ``EncodedRows.made_of``: items with the same fields, null or not, share it.
    """

    fields_key: Callable[[Any], Hashable]

    def __init__(self, builder: RecordBuilder, columns: int, *, ids_only: bool) -> None:
        self._builder = builder
        self._columns = columns
        self._ids_only = ids_only
        self._id_of: Callable[[Any], str] = attrgetter("key")
        self._targets_by_name: dict[str, list[Target]] = {}
        for target in builder.targets:
            self._targets_by_name.setdefault(target.path[0], []).append(target)
        self._native: dict[int, Any] = {builder.key_column: str}
        if not ids_only:
            self._native |= {target.column: native for target in builder.targets if (native := self._type_of(target))}
        self._compile()

    def encode(self, rows: Sequence[Row]) -> EncodedRows:
        """
        Encode rows.

        :raises UnfitRowsError: one of them does not fit.
        """
        while not self._fits(rows):
            if not self._learn(rows):
                raise UnfitRowsError
        try:
            records = self._make(rows)
            lines = _encode_lines(records)
        except (RefusedValueError, TypeError, ValueError, RecursionError):
            raise UnfitRowsError from None
        place, native = self._builder.key_column, self._native.get(self._builder.key_column)
        keys = None if native is None else [row[place] for row in rows]
        ids: Any = keys if native is str else records if self._ids_only else list(map(self._id_of, records))
        # Looking for one character first is faster, and most chunks have no backslash.
        if not all(map(str.strip, ids)) or (b"\\" in lines and b"\\u0000" in lines):
            raise UnfitRowsError
        return EncodedRows(lines, ids, keys, records)

    def _fits(self, rows: Sequence[Row]) -> bool:
        try:
            msgspec.convert(rows, self._rows_type)
        except Exception:  # a value of an unknown class may raise anything when it is read
            return False
        return True

    def _type_of(self, target: Target) -> Any:
        """Return the type of the values that need no conversion; None if all do."""
        if target.checked:
            return None
        if target.field is None:
            return _Scalar | None
        required = target.path[0] in self._builder.required
        match target.field:
            case Field(type="string"):
                return str | None
            case Field(type="integer"):
                return _Integer | None
            case Field(type="object", fields=fields) if not fields:
                members = GenericAlias(dict, (str, _Scalar | None if target.convert is to_object else _Scalar))
                filled = Annotated[members, Meta(min_length=1)]  # type: ignore[valid-type]
                return filled if required else filled | None
        return None

    def _learn(self, rows: Sequence[Row]) -> bool:
        """Mark the columns that do not fit as they are for conversion; False if there is no such column."""
        unfit = []
        for column, native in self._native.items():
            try:
                msgspec.convert([row[column] for row in rows], GenericAlias(list, (native,)))
            except Exception:
                unfit.append(column)
        for column in unfit:
            native = self._native.pop(column)
            if column == self._builder.key_column and native is str:
                self._native[column] = _Integer
        if unfit:
            self._compile()
        return bool(unfit)

    def _compile(self) -> None:
        """Make the rows' type and the function that makes their records."""
        types = [self._native.get(column, Any) for column in range(self._columns)]
        self._rows_type = GenericAlias(list, (GenericAlias(tuple, tuple(types)),))
        names: dict[str, Any] = {"refuse": _refuse}
        key = self._key(names)
        made = key if self._ids_only else self._record(key, names)
        used = {self._builder.key_column, *(target.column for target in self._builder.targets)}
        unpacked = ", ".join(f"c{column}" if column in used else "_" for column in range(self._columns))
        # Only column numbers go into the code, never names or values.
        self._make = eval(f"lambda rows: [{made} for ({unpacked},) in rows]", names)  # noqa: S307
        fields_key = None if self._ids_only else self._fields_key()
        self.fields_key = eval(f"lambda record: {fields_key}", {"names_and_nulls": _names_and_nulls})  # noqa: S307

    def _key(self, names: dict[str, Any]) -> str:
        column = self._builder.key_column
        native = self._native.get(column)
        if native is str:
            return f"c{column}"
        names["key"] = int.__repr__ if native is _Integer else to_string  # the digits of an enumeration's members, too
        return f"key(c{column})"

    def _record(self, key: str, names: dict[str, Any]) -> str:
        """Return the expression that makes a record, and add the functions that it calls to ``names``."""
        members = [_Member("key", self._builder.key, key)]
        for name, targets in self._targets_by_name.items():
            first = targets[0]
            attribute = f"f{first.column}"
            if len(first.path) == 2:
                members.append(_Member(attribute, name, self._object(name, targets, names)))
                continue
            value = self._value(first.column, first.convert, names)
            required = name in self._builder.required
            members.append(_Member(attribute, name, f"({value} or refuse())" if required else value, first.send_null))
        return _call("record", members, names)

    def _object(self, name: str, targets: Sequence[Target], names: dict[str, Any]) -> str:
        values = {target.column: self._value(target.column, target.convert, names) for target in targets}
        present = [f"c{column} is not None" for column in values if column in self._native]
        omits = not any(target.send_null for target in targets)
        if omits and (converted := [column for column in values if column not in self._native]):
            # All members are converted before it is known whether any is present.
            present.insert(0, " | ".join(f"((v{column} := {values[column]}) is not None)" for column in converted))
            values |= {column: f"v{column}" for column in converted}
        members = [
            _Member(f"f{target.column}", target.path[1], values[target.column], target.send_null) for target in targets
        ]
        made = _call(f"object{targets[0].column}", members, names)
        if not omits:
            return made
        otherwise = "refuse()" if name in self._builder.required else "None"
        return f"({made} if {' or '.join(present)} else {otherwise})"

    def _fields_key(self) -> str:
        """Return the expression for the key of a record's fields."""
        parts = []
        for targets in self._targets_by_name.values():
            value = f"record.f{targets[0].column}"
            if len(targets[0].path) == 2:
                members = ", ".join(f"made.f{target.column} is None" for target in targets)
                parts.append(f"(made := {value}) is not None and ({members},)")
            else:
                is_object = self._may_be_object(targets[0].column)
                parts.append(f"names_and_nulls({value})" if is_object else f"{value} is None")
        return f"({', '.join(parts)},)" if parts else "None"

    def _may_be_object(self, column: int) -> bool:
        return self._native.get(column) not in (_Scalar | None, str | None, _Integer | None)

    def _value(self, column: int, convert: Callable[[Any], Any], names: dict[str, Any]) -> str:
        if column in self._native:
            return f"c{column}"
        names[f"convert{column}"] = _present(convert)
        return f"convert{column}(c{column})"


@dataclass(frozen=True, slots=True)
class _Member:
    """
    A member of a JSON object.

    :param attribute: its name in the struct; an identifier.
    :param name: its name in JSON.
    :param value: the expression for its value.
    :param send_null: whether it is ``null`` if its value is None; otherwise it is left out.
    """

    attribute: str
    name: str
    value: str
    send_null: bool = False


def _call(function: str, members: Sequence[_Member], names: dict[str, Any]) -> str:
    """Return the expression that makes an object, and add its type to ``names``."""
    names[function] = msgspec.defstruct(
        function,
        [(member.attribute, Any, UNSET if member.send_null else None) for member in members],
        rename={member.attribute: member.name for member in members},
        omit_defaults=True,
        gc=False,
    )
    return f"{function}({', '.join(member.value for member in members)})"


def _present(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a converter that passes None through."""
    return lambda value: None if value is None else convert(value)


def _names_and_nulls(value: Any) -> Hashable:
    """Return which members an object has, and which of them are null; of any other value, whether it is null."""
    return (*value, *[inner is None for inner in value.values()]) if isinstance(value, dict) else value is None


def _refuse() -> Any:
    raise RefusedValueError


def rows_encoder(builder: RecordBuilder, columns: int, *, ids_only: bool) -> RowsEncoder | None:
    """Return the encoder of a builder's rows; None if only the builder itself can make them."""
    paths = {target.path for target in builder.targets}
    if any(len(path) == 2 and path[:1] in paths for path in paths):
        return None
    try:
        return RowsEncoder(builder, columns, ids_only=ids_only)
    except (ValueError, UnicodeEncodeError):
        return None
