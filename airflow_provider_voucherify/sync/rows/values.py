"""Warehouse values to documented JSON: one converter per kind of field, which refuses what it cannot write exactly."""

from __future__ import annotations

import datetime
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_voucherify.models.endpoints import Field
from airflow_provider_voucherify.sync.types.text import json_safe_text

Converter = Callable[[Any], Any]

MAX_DEPTH = 32
"""Maximum nesting of objects and lists; a deeper value is refused."""

_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_MAX_DIGITS = 100
_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    Decimal: "a number",
    str: "a string",
    dict: "an object",
    object: "an object",
}
_COMMON = frozenset({str, int, float, bool, Decimal, datetime.date, datetime.datetime})
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1


@dataclass(frozen=True, slots=True)
class LostValue:
    """
    Stands for a value that is lost and refused everywhere, e.g. one that had no JSON form when it was written to
    ``failures.jsonl``.

    :param shown: what is known about it.
    :param why: why it cannot be sent, in terms of the value alone.
    """

    shown: Any
    why: str = "has only the text of its value: correct it, and remove its name from as_text"


class RefusedValueError(Exception):
    """A value that has no documented JSON form; the message says why, in terms of the value alone."""


def is_missing(value: Any) -> bool:
    """Say whether a value is a database's or a data frame's "no value": None, NA, NaT or a masked one."""
    if value is None or type(value) in _COMMON:
        return value is None
    kind = type(value).__name__
    return kind in ("NAType", "NaTType", "MaskedConstant") or (kind.endswith("64") and _is_no_time(value))


def _is_no_time(value: Any) -> bool:
    return type(value).__name__ in ("datetime64", "timedelta64") and bool(value != value)


def converter_for(field: Field) -> Converter:
    """Return the function that converts a present (not missing) value to JSON for a field, or raises."""
    return {
        "string": to_string,
        "integer": to_integer,
        "date": to_date,
        "string_list": to_string_list,
        "object": to_object,
    }[field.type]


def to_string(value: Any) -> str:
    """Text as it is; whole numbers, UUIDs and dates as text."""
    if type(value) is str:
        return _encodable(value)
    value = _plain(value)
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, bool):
        raise RefusedValueError("must be a string, not a boolean")
    if isinstance(value, int | Decimal) and _is_whole(value):
        return str(int(value))
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return str(to_metadata(value))
    _refuse_bytes(value)
    raise RefusedValueError(f"must be a string, not {_kind(value)}")


def to_integer(value: Any) -> int:
    """Whole numbers, however the driver types them; a fraction is refused, never rounded."""
    value = _plain(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RefusedValueError(f"must be an integer, not {_kind(value)}")
    if not isinstance(value, int) and not _is_finite(value):
        raise RefusedValueError(f"must be an integer (actual value is {value})")
    if value != int(value):
        raise RefusedValueError(f"must be an integer (actual value is {value})")
    return _in_range(int(value))


def to_date(value: Any) -> str:
    """Dates, timestamps and ISO-8601 text, as ``YYYY-MM-DD``; the time of day is dropped."""
    value = _plain(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.strip()).date().isoformat()
        except ValueError:
            pass
    raise RefusedValueError(f"must be a date as YYYY-MM-DD (actual value is {_shown(value)})")


def to_string_list(value: Any) -> list[str]:
    """A list of strings, or its JSON text."""
    value = _plain(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _from_json(value)
    if not isinstance(value, list | tuple):
        raise RefusedValueError(f"must be a list of strings, not {_kind(value)}")
    return [to_string(item) for item in value]


def to_object(value: Any) -> dict[str, Any]:
    """A mapping, or its JSON text, with every value converted as metadata."""
    value = _plain(value)
    _refuse_bytes(value)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _from_json(value)
    if not isinstance(value, Mapping):
        raise RefusedValueError(f"must be an object, not {_kind(value)}")
    return {_member_name(name): to_metadata(item) for name, item in value.items()}


def to_metadata(value: Any, depth: int = 0) -> Any:
    """
    Any JSON value: what the metadata of a record may hold.

    A ``Decimal`` stays exact, a timestamp becomes ISO-8601 in UTC with milliseconds (one without a time zone is taken
    as UTC), a date ``YYYY-MM-DD``. NaN, infinity and bytes have no JSON form and are refused. A missing value in a list
    or an object is null; see ``without_nulls``.
    """
    if (common := _AS_METADATA.get(type(value))) is not None:
        return common(value)
    value = _plain(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, int):
        return _in_range(value)
    if isinstance(value, float | Decimal):
        return _finite(value)
    if isinstance(value, datetime.datetime):
        return _in_utc(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    _refuse_bytes(value)
    if depth >= MAX_DEPTH:
        raise RefusedValueError(f"must not be nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {_member_name(name): to_metadata(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_metadata(item, depth + 1) for item in value]
    raise RefusedValueError(f"has no JSON form ({_kind(value)})")


def present_metadata(value: Any) -> Any:
    """``to_metadata`` without the nulls; None if nothing is left."""
    if (common := _AS_METADATA.get(type(value))) is not None:
        return common(value)
    return without_nulls(to_metadata(value))


def present_object(value: Any) -> dict[str, Any] | None:
    """``to_object`` without the nulls; None if it has no members then."""
    return without_nulls(to_object(value)) or None


def without_nulls(value: Any) -> Any:
    """
    Leave out the members of objects that are null, and the objects that have no members left then.

    Nulls and objects in a list stay, since positions in a list matter.

    :param value: JSON.
    """
    if type(value) is dict:
        kept = {name: rest for name, item in value.items() if (rest := without_nulls(item)) is not None}
        return kept if kept or not value else None
    if type(value) is list:
        return [{} if (rest := without_nulls(item)) is None and item is not None else rest for item in value]
    return value


def json_safe(value: Any) -> Any:
    """Convert any value to JSON for people to read: what has no exact form is shown as text."""
    try:
        return to_metadata(value)
    except RefusedValueError:
        if isinstance(value, LostValue):
            return json_safe(value.shown)
        if isinstance(value, Mapping):
            return {json_safe_text(name): json_safe(item) for name, item in value.items()}
        return json_safe_text(value)


def has_json_form(value: Any) -> bool:
    """Say whether ``json_safe`` shows a value exactly."""
    try:
        to_metadata(value)
    except RefusedValueError:
        return False
    return True


def refused_member(value: Any, why: RefusedValueError) -> str:
    """Name the member of an object or list for which it is refused, as the end of a message; empty if it is none."""
    path = _path_of_refused(value, str(why)).removeprefix(".")
    return f" (member {_shown(path)})" if path else ""


def _path_of_refused(value: Any, why: str, depth: int = 0) -> str:
    try:
        value = _plain(value)
        if isinstance(value, str) and depth == 0:
            value = _from_json(value)
        is_list = isinstance(value, list | tuple)
        if depth == MAX_DEPTH or not (is_list or isinstance(value, Mapping)):
            return ""
        for name, item in enumerate(value) if is_list else value.items():
            step = f"[{name}]" if is_list else f".{_member_name(name)}"
            try:
                to_metadata(item, depth + 1)
            except RefusedValueError as found:
                return step + _path_of_refused(item, why, depth + 1) if str(found) == why else ""
    except RefusedValueError:
        pass
    return ""


def _plain(value: Any) -> Any:
    """Unwrap NumPy scalars and arrays, and data frames' missing values inside lists."""
    if type(value) in _COMMON:
        return value
    if isinstance(value, LostValue):
        raise RefusedValueError(f"{value.why} ({value.shown!r:.60})")
    if is_missing(value):
        return None
    return _from_numpy(value) if type(value).__module__.partition(".")[0] == "numpy" else value


def _from_numpy(value: Any) -> Any:
    """Convert times through microseconds: Python has nothing finer, and NumPy would return bare integers."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return value
    is_time = dtype.kind in "mM"
    if is_time and dtype.str.endswith(("ns]", "ps]", "fs]", "as]")):
        value = value.astype(f"{dtype.kind}8[us]")
    plain = value.item() if value.ndim == 0 else value.tolist()
    if is_time and isinstance(plain, int):
        raise RefusedValueError("has no JSON form (a time that Python cannot represent)")
    return plain


def _in_utc(moment: datetime.datetime) -> str:
    try:
        utc = moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
    except (OverflowError, ValueError):
        raise RefusedValueError("is a time that has no date in UTC") from None
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_finite(number: float | Decimal) -> bool:
    """Say whether a number is finite, and no larger than JSON readers can hold."""
    return not (isinstance(number, Decimal) and number.is_snan()) and math.isfinite(number)


def _finite(number: float | Decimal) -> float | Decimal:
    if not _is_finite(number):
        raise RefusedValueError(f"must be a finite number (actual value is {number})")
    return number


def _is_whole(number: int | Decimal) -> bool:
    """Say whether a number has no fraction; refuse one with so many digits that writing them would take forever."""
    digits = number.adjusted() if isinstance(number, Decimal) else number.bit_length() * 0.30103
    if digits > _MAX_DIGITS:
        raise RefusedValueError(f"is a number of more than {_MAX_DIGITS} digits")
    return isinstance(number, int) or (number.is_finite() and number == number.to_integral_value())


def _encodable(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RefusedValueError("holds a lone surrogate, which UTF-8 cannot carry") from None
    return text if type(text) is str else str.__str__(text)


def _in_range(number: int) -> int:
    if not _MIN_INTEGER <= number <= _MAX_INTEGER:
        raise RefusedValueError("is an integer of more than 64 bits")
    return number


def _member_name(name: Any) -> str:
    if not isinstance(name, str):
        raise RefusedValueError(f"has a member whose name is {_kind(name)}, not a string")
    return _encodable(name)


def _refuse_bytes(value: Any) -> None:
    """Refuse bytes even if they could be decoded as text: a BIT flag would become a control character."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise RefusedValueError("has bytes, which have no JSON form; cast BIT to integer, and BINARY to hex or to text")


def _from_json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, object_pairs_hook=_members)
    except (ValueError, ArithmeticError, RecursionError):
        raise RefusedValueError("looks like JSON but cannot be read as JSON") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise RefusedValueError(f"is JSON with two members {_shown(twice)}")
    return members


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}" if value is not None else "null")


def _shown(value: Any) -> str:
    text = json_safe_text(value)
    return repr(text if len(text) <= 60 else text[:59] + "…")


_AS_METADATA: dict[type, Converter] = {
    str: _encodable,
    int: _in_range,
    float: _finite,
    Decimal: _finite,
    datetime.datetime: _in_utc,
    datetime.date: datetime.date.isoformat,
}
"""Converters of ``to_metadata`` for the types that are most frequent in warehouses."""
