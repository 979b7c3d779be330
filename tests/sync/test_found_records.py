"""Exports that are odd, and can be read all the same."""

from __future__ import annotations

from io import BytesIO

import pytest

from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords

ITEM = b'{"source_id":"a","name":"x"}'


@pytest.mark.parametrize(
    ("export", "number", "comparison"),
    [
        ("source_id,name\na,x\n", 1, "same"),
        ("source_id,name\na,y\na,x\n", 1, "same"),
        ("source_id,name\na,x\na,y\n", 1, "different"),
        ("source_id,name\na,x\n\n", 1, "same"),
        ("source_id,name\n,x\n", 0, "absent"),
        ("source_id,name\n", 0, "absent"),
    ],
    ids=["once", "last is the same", "last is another", "blank line", "without a key", "empty"],
)
def test_of_a_record_that_is_there_twice_the_last_line_counts(export: str, number: int, comparison: str) -> None:
    with FoundRecords("source_id", [("name",)], [ITEM]) as found:
        found.read(BytesIO(export.encode()))

        assert found.number == number
        assert found.compare(["a"], [ITEM]) == [comparison]
