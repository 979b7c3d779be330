"""Numbers that a person gives."""

from __future__ import annotations

from typing import Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError


class DefaultLimit(int):
    """A limit that nobody has given: another limit that somebody gives takes its place."""


NO_FAILURES = DefaultLimit(0)
"""The default of ``max_failed_records``: unlike a 0 that somebody gives it gives way to ``max_failed_ratio``."""


def check_number(name: str, value: Any, least: float, most: float | None = None) -> None:
    """
    Check a number, which a template or a form may have made a text.

    :raises VoucherifyConfigurationError: it is none, or is out of range.
    """
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= (float("inf") if most is None else most):
        raise VoucherifyConfigurationError(f"{name} must be a number {bounds}, not {value!r}")
