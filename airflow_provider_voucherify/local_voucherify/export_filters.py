"""
The filters of exports: which objects an export has.

Nothing says how conditions compare: here dates as times, numbers as numbers, and everything else as the text
that a cell would have. A list fulfils ``$is``, ``$in`` and ``$contains`` with any of its items.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from datetime import UTC
from typing import Any

from airflow_provider_voucherify.local_voucherify.actions import wire_time
from airflow_provider_voucherify.local_voucherify.export_requests import ExportRequest
from airflow_provider_voucherify.local_voucherify.export_values import Getter, Wire, getter_of, text_of
from airflow_provider_voucherify.local_voucherify.metadata_schema import parse_iso_datetime
from airflow_provider_voucherify.local_voucherify.options import Options

Test = Callable[[Any], bool]


def filter_of(request: ExportRequest, options: Options) -> Callable[[Wire], bool] | None:
    """Return what says whether an object is exported; None if all are."""
    tests: list[tuple[Getter, Test]] = []
    for name, conditions in request.filters.items():
        getter = getter_of(request.exported.name, name, options)
        tests += [(getter, _test_of(condition, values, options)) for condition, values in conditions.items()]
    every = all if request.junction == "and" else any
    campaign_id = request.campaign_id
    if not tests and campaign_id is None:
        return None

    def exported(shown: Wire) -> bool:
        fits = not tests or every(test(getter(shown)) for getter, test in tests)
        return fits and (campaign_id is None or shown.get("campaign_id") == campaign_id)

    return exported


def _test_of(condition: str, values: list[Any], options: Options) -> Test:
    def texts(value: Any) -> Iterable[str]:
        return (_text(one, options) for one in (value if isinstance(value, list) else [value]))

    wanted = frozenset(_text(value, options) for value in values)
    among: Test = lambda value: any(text in wanted for text in texts(value))  # noqa: E731
    match condition:
        case "$is" | "$in":
            return among
        case "$is_not" | "$not_in":
            return lambda value: not among(value)
        case "$has_value":
            return lambda value: value is not None
        case "$is_unknown":
            return lambda value: value is None
        case "$contains":
            return lambda value: any(part in text for text in texts(value) for part in wanted)
        case "$not_contain":
            return lambda value: not any(part in text for text in texts(value) for part in wanted)
        case "$starts_with":
            return lambda value: any(text.startswith(tuple(wanted)) for text in texts(value))
        case "$ends_with":
            return lambda value: any(text.endswith(tuple(wanted)) for text in texts(value))
    inclusive = options.export_bounds == "inclusive"
    comparisons: dict[str, Callable[[Any, Any], bool]] = {
        "$after": operator.ge if inclusive else operator.gt,
        "$before": operator.le if inclusive else operator.lt,
        "$more_than": operator.gt,
        "$less_than": operator.lt,
        "$more_than_equal": operator.ge,
        "$less_than_equal": operator.le,
    }
    compare, bounds = comparisons[condition], [_comparable(value) for value in values]

    def beyond(value: Any) -> bool:
        one = _comparable(value)
        return any(type(bound) is type(one) and one is not None and compare(one, bound) for bound in bounds)

    return beyond


def _text(value: Any, options: Options) -> str:
    return text_of(_comparable(value) if isinstance(value, str) else value, options)


def _comparable(value: Any) -> float | str | None:
    """Return a number, a time as the API writes it, or another text as it is; None for what has no order."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    if len(value) == _TIME_LENGTH and value.endswith("Z"):
        return value
    try:
        moment = parse_iso_datetime(value) if value[4:5] == "-" else None
    except ValueError:
        return value
    return value if moment is None else wire_time((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


_TIME_LENGTH = len("2022-09-05T11:40:17.098Z")
