"""
The types of a metadata schema: which values each certainly refuses.

Each function makes a predicate from a definition, which accepts ordinary values at once and checks only the others in
detail. What the vendor does not document passes, see ``metadata_rules``.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_provider_voucherify.models.metadata_schema import MetadataDefinition, is_number

Accepts = Callable[[Any], bool]
"""False only for a value that is certainly refused."""

_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
_ISO_8601 = re.compile(
    r"""
    ( [+-] ( \d{2} )? )? \d{4}
    ( -? W ( 0[1-9] | [1-4]\d | 5[0-3] ) ( -? [1-7] )?
    | -? [0-3]\d{2}
    | -? ( 0[1-9] | 1[0-2] ) ( -? ( 0[1-9] | [12]\d | 3[01] ) )?
    )?
    ( [Tt ] ( [01]\d | 2[0-4] ) ( :? [0-5]\d ( :? ( [0-5]\d | 60 ) )? )? ( [.,]\d+ )?
      ( \ ? ( [Zz] | [+-]\d{2} ( :? \d{2} )? ) )?
    )?
    """,
    re.ASCII | re.VERBOSE,
)
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
_IMAGE = re.compile("jpe?g|png", re.IGNORECASE)


def list_of(accepts: Accepts) -> Accepts:
    """Return the test of a list whose elements must pass another."""
    return lambda value: (isinstance(value, list) and all(map(accepts, value))) or value is None


def _string(definition: MetadataDefinition) -> Accepts:
    allowed = _values_of(definition.eq, lambda value: isinstance(value, str))
    banned = frozenset(value for value in definition.ne or () if isinstance(value, str))
    exact = definition.exact_length
    shortest = max(definition.min_length or 0, exact or 0)
    longest = min(sys.maxsize if length is None else length for length in (definition.max_length, exact))

    def accepts(value: Any) -> bool:
        if (
            type(value) is str
            and (allowed is None or value in allowed)
            and value not in banned
            and shortest <= len(value) <= longest
        ):
            return True
        return value is None or (isinstance(value, str) and closely(value))

    def closely(value: str) -> bool:
        utf_16_units = len(value.encode("utf-16-le", "surrogatepass")) // 2
        listed = (allowed is None or value in allowed) and value not in banned
        return listed and shortest <= utf_16_units <= longest

    if allowed is None and not banned and not shortest and longest == sys.maxsize:
        return lambda value: type(value) is str or value is None or isinstance(value, str)
    return accepts


def _number(definition: MetadataDefinition) -> Accepts:
    as_it_is = _number_test(definition, lambda number: number)
    as_double = _number_test(definition, float)
    exactly = _number_test(definition, lambda number: Decimal(str(number)))

    def accepts(value: Any) -> bool:
        kind = type(value)
        if kind is int or kind is float:
            if as_it_is(value):
                return True
        elif kind is Decimal and exactly(value):
            return True
        is_number_like = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        return value is None or (is_number_like and as_double(float(value)))

    return accepts


def _number_test(definition: MetadataDefinition, convert: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Return the test of a definition's constraints, with their numbers converted to those that will be tested."""
    bounds = [
        (holds, convert(bound)) for name, holds in _BOUNDS.items() if (bound := getattr(definition, name)) is not None
    ]
    listed = _values_of(definition.eq, is_number)
    allowed = None if listed is None else frozenset(map(convert, listed))
    banned = frozenset(convert(value) for value in definition.ne or () if is_number(value))

    def fits(value: Any) -> bool:
        for holds, bound in bounds:
            if not holds(value, bound):
                return False
        return (allowed is None or value in allowed) and value not in banned

    return fits


def _values_of(values: list[Any] | None, of_type: Callable[[Any], bool]) -> frozenset[Any] | None:
    """Return the values of an ``eq`` that can be relied on, None for any other."""
    return frozenset(values) if values and all(map(of_type, values)) else None


def _boolean(_: MetadataDefinition) -> Accepts:
    return lambda value: value is True or value is False or value is None


def _iso_8601(_: MetadataDefinition) -> Accepts:
    def accepts(value: Any) -> bool:
        if type(value) is str:
            try:
                datetime.fromisoformat(value)
            except ValueError:
                return _ISO_8601.fullmatch(value.strip()) is not None
            return True
        return value is None or (isinstance(value, str) and accepts(str(value)))

    return accepts


def _geopoint(_: MetadataDefinition) -> Accepts:
    def accepts(value: Any) -> bool:
        if not isinstance(value, str):
            return value is None
        try:
            latitude, longitude = value.split(",")
            float(latitude)
            float(longitude)
        except ValueError:
            return False
        return True

    return accepts


def _image_url(_: MetadataDefinition) -> Accepts:
    def accepts(value: Any) -> bool:
        if not isinstance(value, str):
            return value is None
        return value.endswith(_IMAGE_ENDINGS) or _IMAGE.search(value) is not None

    return accepts


def object_of(members: Sequence[tuple[str, Accepts]]) -> Accepts:
    """Return the test of an object; some of its members are tested too, if present."""

    def accepts(value: Any) -> bool:
        is_object = isinstance(value, dict)
        for key, member_accepts in members if is_object else ():
            if key in value and not member_accepts(value[key]):
                return False
        return is_object or value is None

    return accepts


TYPES: dict[str, tuple[str, Callable[[MetadataDefinition], Accepts]]] = {
    "string": ("must be a string", _string),
    "number": ("must be a number", _number),
    "boolean": ("must be a boolean", _boolean),
    "date": ("must be an ISO-8601 date", _iso_8601),
    "datetime": ("must be an ISO-8601 date time", _iso_8601),
    "image_url": ("must be a URL pointing to JPG/JPEG or PNG resource", _image_url),
    "geopoint": ("must be a geopoint", _geopoint),
    "object": ("must be an object", lambda _: object_of(())),
}
