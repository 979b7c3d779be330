"""Missing values: left out, so that nothing is blanked by accident, unless a null is asked for where it is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.destination import metadata_destination
from airflow_provider_voucherify.sync.mapping import MappingRules
from airflow_provider_voucherify.sync.sources import from_cursor

ReadRows = Callable[..., Any]
EMPTY_ROW = {
    "source_id": "c",
    "name": None,
    "birthdate": None,
    "address": None,
    "metadata": None,
    "tier": None,
}


def test_missing_values_are_not_sent(read: ReadRows) -> None:
    assert read("customers", [EMPTY_ROW]).record == {"source_id": "c"}


def test_send_sends_null_where_the_description_allows_it_and_nowhere_else(read: ReadRows) -> None:
    done = read("customers", [EMPTY_ROW], MappingRules(null_policy="send"))

    assert done.record == {"source_id": "c", "address": None, "metadata": {"tier": None}}


def test_a_part_of_the_address_is_never_null(read: ReadRows) -> None:
    row = {"source_id": "c", "address_city": "Łódź", "address_state": None}

    assert read("customers", [row], MappingRules(null_policy="send")).record["address"] == {"city": "Łódź"}


@pytest.mark.parametrize("order", [["address", "address_city"], ["address_city", "address"]])
def test_a_given_part_wins_over_a_null_address(read: ReadRows, order: list[str]) -> None:
    row = {"source_id": "c"} | {name: {"address": None, "address_city": "Łódź"}[name] for name in order}

    assert read("customers", [row], MappingRules(null_policy="send")).record["address"] == {"city": "Łódź"}


def test_the_policy_can_be_set_per_column(read: ReadRows) -> None:
    row = {"source_id": "c", "tier": None, "since": None, "address": None}

    done = read("customers", [row], MappingRules(null_policy={"tier": "send", "since": "omit"}))

    assert done.record == {"source_id": "c", "metadata": {"tier": None}}


@pytest.mark.parametrize(
    ("resource", "column"),
    [("customers", "name"), ("customers", "metadata"), ("customers", "address_city"), ("products", "price")],
)
def test_a_null_that_the_description_does_not_allow_is_refused_when_asked_for(
    read: ReadRows, resource: str, column: str
) -> None:
    left = [[("c", None)]]
    rows = from_cursor(["source_id", column], lambda size: left.pop() if left else [])

    with pytest.raises(VoucherifyConfigurationError, match=f"to send null for '{column}', but .* does not allow null"):
        read(resource, rows, MappingRules(null_policy={column: "send"}))


def test_of_records_that_differ_only_the_ones_concerned_are_refused_for_it(read: ReadRows) -> None:
    rows = [{"source_id": "a"}, {"source_id": "b", "name": None}]

    done = read("customers", rows, MappingRules(null_policy={"name": "send"}))

    assert [record["source_id"] for record in done.records] == ["a"]
    assert "does not allow null in name" in (done.reasons[0][1] or "")


@pytest.mark.parametrize("metadata", [{}, {"tier": None}])
def test_an_update_of_nothing_is_refused(read: ReadRows, metadata: dict[str, Any]) -> None:
    destination = metadata_destination("vouchers", None)

    key, message = read(destination, [{"code": "v"} | metadata]).reason

    assert (key, message) == ("nothing_to_send", "metadata is empty, there is nothing to update")


def test_a_null_in_metadata_is_something_to_send(read: ReadRows) -> None:
    done = read(metadata_destination("vouchers", None), [{"code": "v", "a": None}], MappingRules(null_policy="send"))

    assert done.record == {"code": "v", "metadata": {"a": None}}
