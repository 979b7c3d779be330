"""Numbers that a person gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_voucherify.models.errors import refuse_all


def mistake_in_number(name: str, value: Any, least: float, most: float | None = None) -> Iterator[str]:
    """Say what is wrong with a number, which a template or a form may have made a text."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= (float("inf") if most is None else most):
        yield f"{name} must be a number {bounds}, not {value!r}"


def check_number(name: str, value: Any, least: float, most: float | None = None) -> None:
    """
    Check a number.

    :raises VoucherifyConfigurationError: it is not one, or is out of range.
    """
    refuse_all(mistake_in_number(name, value, least, most))
