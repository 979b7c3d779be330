"""Scalars and arrays of NumPy, as data frames hand them out (skipped without NumPy)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    ("make", "sent"),
    [
        (lambda: numpy.int64(7), 7),
        (lambda: numpy.float64(0.5), 0.5),
        (lambda: numpy.bool_(True), True),
        (lambda: numpy.str_("Ann"), "Ann"),
        (lambda: numpy.array([1, 2]), [1, 2]),
        (lambda: numpy.array(7), 7),
        (lambda: numpy.datetime64("2024-02-29"), "2024-02-29"),
        (lambda: numpy.datetime64("2024-02-29T10:00:00"), "2024-02-29T10:00:00.000Z"),
        (lambda: numpy.datetime64("2024-02-29T10:00:00.123456789"), "2024-02-29T10:00:00.123Z"),
        (lambda: numpy.array(["2024-02-29"], dtype="datetime64[ns]"), ["2024-02-29T00:00:00.000Z"]),
        (lambda: [numpy.int8(1), {"a": numpy.float32(0.25)}], [1, {"a": 0.25}]),
    ],
)
def test_scalars_and_arrays_are_unwrapped(read: Callable[..., Any], make: Callable[[], Any], sent: Any) -> None:
    assert read("customers", [{"source_id": "c", "m": make()}]).record["metadata"] == {"m": sent}


@pytest.mark.parametrize("unit", ["ns", "us", "D"])
def test_no_time_is_a_missing_value(read: Callable[..., Any], unit: str) -> None:
    done = read("customers", [{"source_id": "c", "m": numpy.datetime64("NaT", unit)}])

    assert done.record == {"source_id": "c"}


@pytest.mark.parametrize("unit", ["ns", "s", "D"])
def test_a_duration_has_no_json_form(read: Callable[..., Any], unit: str) -> None:
    key, message = read("customers", [{"source_id": "c", "m": numpy.timedelta64(5, unit)}]).reason

    assert (key, "no JSON form" in message) == ("invalid_value", True)


def test_nan_is_refused_and_an_integer_is_an_id(read: Callable[..., Any]) -> None:
    done = read("customers", [{"source_id": numpy.int64(1), "m": numpy.float64("nan")}, {"source_id": numpy.int64(2)}])

    assert [record["source_id"] for record in done.records] == ["2"]
    assert done.reasons[0][0] == "invalid_value"
