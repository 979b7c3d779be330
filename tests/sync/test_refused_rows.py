"""Rows that cannot be valid are refused one by one, with a reason, and the rest goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parameter_ids import without_address

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import (
    BatchLimits,
    metadata_destination,
    update_destination,
)
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.mapping import MappingRules

ReadRows = Callable[..., Any]


@pytest.mark.parametrize("resource", ["orders", "", "Customers"])
def test_an_unknown_resource_is_named(resource: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=f"unknown resource '{resource}'.*customers, products, vou"):
        update_destination(resource)
    with pytest.raises(VoucherifyConfigurationError, match=f"unknown resource '{resource}'"):
        metadata_destination(resource, {"a": 1})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"name": "Ann"}, "source_id is missing"),
        ({}, "source_id is missing"),
        ({"source_id": None}, "source_id is missing"),
        ({"source_id": ""}, "source_id is empty"),
        ({"source_id": " \n"}, "source_id is empty"),
        ({"source_id": 1.5}, "source_id must be a string, not a number"),
        ({"source_id": True}, "source_id must be a string, not a boolean"),
        ({"source_id": ["c"]}, "source_id must be a string, not a list"),
        ({"source_id": "\ud800"}, "source_id holds a lone surrogate, which UTF-8 cannot carry"),
    ],
    ids=repr,
)
def test_a_row_without_a_usable_key_is_refused(read: ReadRows, row: dict[str, Any], why: str) -> None:
    done = read("customers", [{"source_id": "a"}, row, {"source_id": "b"}])

    assert [record["source_id"] for record in done.records] == ["a", "b"]
    assert done.reasons == [("missing_key", why)]
    assert json.loads(done.failures[0])["_failure"]["row"] == 2


@pytest.mark.parametrize("record", [None, 1.5, True, {"c"}, b"c", object()], ids=without_address)
def test_a_record_that_is_neither_a_dict_nor_an_id_is_refused(read: ReadRows, record: Any) -> None:
    done = read("customers", ["a", record, 7])

    assert [record["source_id"] for record in done.records] == ["a", "7"]
    assert done.reasons[0][0] == "invalid_line"


def test_ids_beside_lists_are_a_mistake(read: ReadRows) -> None:
    """Airflow makes the first of a dict that is given to ``.expand(records=...)``."""
    with pytest.raises(VoucherifyConfigurationError, match=r"lists beside ids; with \.expand"):
        read("customers", ("records", [{"source_id": "c"}]))


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ("abc", "not as a text (a template gives text"),
        (b"abc", "not as bytes"),
        ({"source_id": "c"}, "not as one dict (put a single row into a list)"),
        (7, "not as int"),
        (None, "not as None"),
    ],
    ids=repr,
)
def test_what_cannot_be_rows_is_a_mistake(read: ReadRows, records: Any, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=f"the rows must come as .*, {re.escape(said)}"):
        read("customers", records)


@pytest.mark.parametrize("resource", ["customers", "products", "vouchers"])
def test_zero_rows_are_no_request(read: ReadRows, resource: str) -> None:
    done = read(resource, [])

    assert (done.rows_read, done.refused, done.bodies) == (0, 0, [])


def test_a_record_over_the_limit_is_refused_with_its_size(read: ReadRows) -> None:
    rows = [{"source_id": "a"}, {"source_id": "b", "name": "x" * 100}, {"source_id": "c"}]

    done = read("customers", rows, limits=BatchLimits(max_bytes=60))

    assert done.bodies == [b'[{"source_id":"a"},{"source_id":"c"}]']
    assert done.reasons == [("record_too_large", "alone takes 129 bytes, and a request may have 60")]


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_the_limit_is_exact(read: ReadRows, spare: int) -> None:
    rows = [{"source_id": "a"}, {"source_id": "b"}]
    whole = len(b'[{"source_id":"a"},{"source_id":"b"}]')

    done = read("customers", rows, limits=BatchLimits(max_bytes=whole + spare))

    assert len(done.bodies) == (2 if spare < 0 else 1)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_bytes": 0}, "max_bytes must be from 1 to 10485760"),
        ({"max_bytes": 10_485_761}, "max_bytes must be from 1 to 10485760"),
        ({"max_records": 0}, "max_records must be at least 1"),
    ],
)
def test_impossible_limits_are_a_mistake(limits: dict[str, int], said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        BatchLimits(**limits)


def test_metadata_for_all_ids_is_sent_beside_the_ids(read: ReadRows) -> None:
    destination = metadata_destination("vouchers", {"vip": True, "rate": 1.5, "name": "Zażółć"})

    done = read(destination, ["a", {"code": "b", "other": object()}, 7], limits=BatchLimits(max_records=2))

    assert [json.loads(body) for body in done.bodies] == [
        {"codes": ["a", "b"], "metadata": {"vip": True, "rate": 1.5, "name": "Zażółć"}},
        {"codes": ["7"], "metadata": {"vip": True, "rate": 1.5, "name": "Zażółć"}},
    ]


def test_ids_can_be_taken_from_a_column_of_another_name(read: ReadRows) -> None:
    destination = metadata_destination("products", {"a": 1})

    done = read(destination, [{"sku": "p1"}, {"sku": None}], MappingRules({"sku": "source_id"}))

    assert (done.records, done.reasons) == (["p1"], [("missing_key", "source_id is missing")])


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "metadata is empty"),
        (["a"], "metadata must be an object, not a list"),
        ("vip", "metadata must be an object, not a string"),
        ({"a": float("nan")}, "metadata must be a finite number"),
        ({"a": "\ud800"}, "metadata holds a lone surrogate"),
        ({"a": object()}, "metadata has no JSON form"),
        ({1: "a"}, "metadata has a member whose name is an integer"),
    ],
    ids=without_address,
)
def test_metadata_for_all_ids_that_cannot_be_sent_is_a_mistake(metadata: Any, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        metadata_destination("customers", metadata)


def test_metadata_that_leaves_no_room_for_an_id_is_a_mistake() -> None:
    with pytest.raises(VoucherifyConfigurationError, match="metadata alone takes 137 bytes, which leaves no room"):
        Plan(metadata_destination("customers", {"a": "x" * 100}), limits=BatchLimits(max_bytes=130))


@given(st.lists(st.sampled_from([{"source_id": "a"}, {"source_id": None}, {"x": 1}, None, "b"]), max_size=40))
def test_the_sample_is_short_and_the_file_complete(read: ReadRows, rows: list[Any]) -> None:
    done = read("customers", rows)

    assert len(done.reasons) == min(done.refused, 10)
    assert len(done.failures) == done.refused
    numbers = [json.loads(line)["_failure"]["row"] for line in done.failures]
    assert [rows[number - 1] for number in numbers] == [row for row in rows if row not in ({"source_id": "a"}, "b")]
