"""Column names that are given, or that a source has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError


def check_names_of_values(columns: Any) -> None:
    """
    Check ``columns=``.

    :raises VoucherifyConfigurationError: it is not a list of different names.
    """
    if not isinstance(columns, list | tuple) or not columns:
        raise VoucherifyConfigurationError(f"columns must be a list of column names, not {columns!r:.200}")
    check_names(columns, "columns= has")


def check_names(names: Sequence[Any], who_has: str) -> None:
    """
    Check the names of a table's columns.

    :param who_has: the beginning of the error message, such as ``the table has``.
    :raises VoucherifyConfigurationError: they are not texts, or not all different.
    """
    if unnamed := [name for name in names if not isinstance(name, str)]:
        raise VoucherifyConfigurationError(f"{who_has} a column whose name is {unnamed[0]!r:.60}, not text")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise VoucherifyConfigurationError(f"{who_has} more than one column named {', '.join(map(repr, twice))}")
