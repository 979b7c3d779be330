"""CSV files: as spreadsheets and databases write them, with every line that is none counted and the rest read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.mapping import MappingRules
from airflow_provider_voucherify.sync.sources import from_file

ReadRows = Callable[..., Any]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def csv_file(text: str | bytes) -> Iterator[Any]:
    return from_file(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "s3://bucket/rows.CSV?version=3")


@pytest.mark.parametrize(
    "text",
    [
        "source_id,name\nc1,Zażółć\nc2,\n",
        "source_id,name\r\nc1,Zażółć\r\nc2,\r\n",
        "\ufeffsource_id,name\nc1,Zażółć\nc2,",
        'source_id,name\n\n"c1","Zażółć"\n\n"c2",""\n\n',
    ],
    ids=["unix", "windows", "byte order mark", "quoted, with blank lines"],
)
def test_rows_are_text_and_empty_is_missing(read: ReadRows, text: str) -> None:
    assert read("customers", csv_file(text)).records == [{"source_id": "c1", "name": "Zażółć"}, {"source_id": "c2"}]


@given(st.lists(st.tuples(st.uuids(), TEXTS, TEXTS), max_size=10))
def test_what_is_written_as_csv_is_read(read: ReadRows, rows: list[tuple[Any, str, str]]) -> None:
    """Quotes, delimiters, line ends and null characters within values included."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("source_id", "a", "b"), *rows])

    done = read("customers", csv_file(text.getvalue()))

    expected = [(str(source_id), {k: v for k, v in (("a", a), ("b", b)) if v}) for source_id, a, b in rows]
    assert [(record["source_id"], record.get("metadata", {})) for record in done.records] == expected


def test_ragged_lines_are_refused_and_counted(read: ReadRows) -> None:
    done = read("customers", csv_file("source_id,name\nc1,Ann\nc2\nc3,Bob,x\nc4,Cid\n"))

    assert [record["source_id"] for record in done.records] == ["c1", "c4"]
    assert done.rows_read == 4
    assert done.reasons == [
        ("invalid_line", "line 3 has 1 values for 2 columns"),
        ("invalid_line", "line 4 has 3 values for 2 columns"),
    ]


@pytest.mark.parametrize("line", ['c2,"a"b', 'c2,"never closed'], ids=["text after a quote", "open quote"])
def test_a_line_that_breaks_the_rules_of_quoting_is_refused(read: ReadRows, line: str) -> None:
    done = read("customers", csv_file(f"source_id,name\nc1,Ann\n{line}\n"))

    assert [record["source_id"] for record in done.records] == ["c1"]
    assert [key for key, _ in done.reasons] == ["invalid_line"]
    assert "is no CSV" in (done.reasons[0][1] or "")


def test_long_values_are_read_and_too_long_ones_refused_by_their_size(read: ReadRows) -> None:
    done = read("customers", csv_file(f"source_id,bio\nc1,{'x' * 1_200_000}\nc2,{'x' * 10_485_760}\nc3,x\n"))

    assert [(record["source_id"], len(record["metadata"]["bio"])) for record in done.records] == [
        ("c1", 1_200_000),
        ("c3", 1),
    ]
    assert [key for key, _ in done.reasons] == ["record_too_large"]


@pytest.mark.parametrize("text", ["", "source_id,name\n"])
def test_a_file_without_rows_is_no_mistake(read: ReadRows, text: str) -> None:
    assert read("customers", csv_file(text)).rows_read == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source_id,a,a\nc,1,2\n", "two columns of the same name"),
        (b"source_id,name\nc1,\xff\n", "the CSV file is not UTF-8"),
        ("source_id;name\nc1;Ann\n", "no column gives source_id.*'source_id;name'"),
    ],
)
def test_a_file_of_another_form_is_a_mistake(read: ReadRows, text: str | bytes, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        read("customers", csv_file(text))


@pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.csv.gz", "rows.json", "csv"])
def test_a_file_of_another_kind_is_a_mistake(name: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"must end in \.jsonl, \.csv or \.parquet"):
        from_file(io.BytesIO(b""), name)


def test_the_file_stays_open_for_its_owner(read: ReadRows) -> None:
    file = io.BytesIO(b"source_id\nc1\n")

    read("customers", from_file(file, "rows.csv"))

    assert not file.closed


def test_text_becomes_the_documented_type_of_its_field(read: ReadRows) -> None:
    text = 'sku,price,attributes,stock\np1,1999,"[""colour""]",7\np2,19.99,,\n'

    rules = MappingRules(dict.fromkeys(["sku"], "source_id") | {n: n for n in ("price", "attributes")})
    done = read("products", csv_file(text), rules)

    assert done.record == {"source_id": "p1", "price": 1999, "attributes": ["colour"]}
    assert done.reasons == [("invalid_value", "price must be an integer, not a string")]
