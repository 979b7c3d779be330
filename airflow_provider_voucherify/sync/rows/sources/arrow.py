"""Values of Arrow columns as Python objects, for tables in memory and Parquet files alike."""

from __future__ import annotations

from typing import Any

from airflow_provider_voucherify.sync.rows.values import LostValue


def arrow_values(column: Any) -> list[Any]:
    """Return a column's values; those that Python does not have, such as a date in the year 20000, refuse their row."""
    has_maps = _has_maps(column.type)
    try:
        values = column.to_pylist()
        return [_with_objects(value, column.type) for value in values] if has_maps else values
    except (OverflowError, ValueError):
        return [arrow_value(scalar) for scalar in column]


def arrow_value(scalar: Any) -> Any:
    """Return one value, see ``arrow_values``."""
    try:
        return _with_objects(scalar.as_py(), scalar.type)
    except (OverflowError, ValueError) as error:
        try:
            shown: Any = scalar.cast("string").as_py()
        except Exception:
            shown = str(scalar.type)
        return LostValue(shown, f"has no form in Python: {error}")


def _has_maps(kind: Any) -> bool:
    from pyarrow import types  # type: ignore[import-untyped,unused-ignore]

    if types.is_map(kind):
        return True
    return types.is_nested(kind) and any(_has_maps(kind.field(place).type) for place in range(kind.num_fields))


def _with_objects(value: Any, kind: Any) -> Any:
    """
    Convert maps in a value, which pyarrow returns as lists of pairs, to dicts.

    :raises ValueError: a map has a key twice.
    """
    from pyarrow import types  # type: ignore[import-untyped,unused-ignore]

    if value is None or not types.is_nested(kind):
        return value
    if types.is_map(kind):
        pairs = [(_with_objects(key, kind.key_type), _with_objects(item, kind.item_type)) for key, item in value]
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a map has a key twice")
        return members
    if types.is_struct(kind):
        return {name: _with_objects(item, kind.field(name).type) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_objects(item, kind.value_type) for item in value]
    return value
