"""CSV files: as spreadsheets and databases write them, with every line that is none counted and the rest read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.csv_rows import csv_options
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_file

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
        ("invalid_line", "line 3 has 1 value for 2 columns"),
        ("invalid_line", "line 4 has 3 values for 2 columns"),
    ]


@pytest.mark.parametrize("line", ['c2,"a"b', 'c2,"never closed'], ids=["text after a quote", "open in the last line"])
def test_a_line_that_breaks_the_rules_of_quoting_is_refused(read: ReadRows, line: str) -> None:
    done = read("customers", csv_file(f"source_id,name\nc1,Ann\n{line}\n"))

    assert [record["source_id"] for record in done.records] == ["c1"]
    assert [key for key, _ in done.reasons] == ["invalid_line"]
    assert (done.reasons[0][1] or "").startswith("line 3 is not valid CSV: ")


@pytest.mark.parametrize(
    ("lines", "began"),
    [
        (
            'c1,"Ann\nc2,Bob\nc3,Cid\n',
            "begins in line 2 of .* and ends in line 4 is not valid CSV: unexpected end of data",
        ),
        ('c1,Ann\n\nc2,"Bob\nc3,"Cid\nc4,Dan\n', "begins in line 4 of .* and ends in line 5 is not valid CSV"),
        ('c1,"Ann\nc2,Bob",x\nc3,Cid\n', "begins in line 2 of .* and ends in line 3 has 3 values for 2 columns"),
        ('c1,"A"nn,"x\nc2,Bob"\n', "begins in line 2 of .* and ends in line 2 is not valid CSV"),
        ('c1,"TV 27\\""\nc2,Bob\n', r'begins in line 2 of .* csv_dialect=."escapechar": "\\\\".'),
    ],
    ids=[
        "never closed",
        "closed in another row",
        "too many values",
        "open after another mistake",
        "escaped by a backslash",
    ],
)
def test_a_quote_that_takes_other_rows_with_it_fails_the_file(read: ReadRows, lines: str, began: str) -> None:
    """It would count as one refused row, however many there are in it."""
    with pytest.raises(VoucherifyConfigurationError, match=f"the row that {began}"):
        read("customers", csv_file(f"source_id,name\n{lines}"))


@pytest.mark.parametrize(
    "text",
    [
        'source_id,name\nc1,"Ann\nc2,Bob\nc3,Cid"\nc4,Dan\n',
        'source_id,name,city\nc1,Ann,"Paris\nc2,Bob,Rome"\n',
        'source_id,name,city\nc1,"Ann,Paris\nc2,Bob",Rome\n',
        'source_id\n"c1\nc2"\n',
        'source_id,name,city\nc1,"Ann,Paris\nc2 c3\nc4,Bob",Rome\n',
        'source_id,name,city\nc1,"Ann,Paris\nc2,"",Oslo\nc4,Bob",Rome\n',
    ],
    ids=["last column", "last of three", "middle", "only column", "with another line between", "with an empty value"],
)
def test_a_value_whose_lines_are_rows_of_the_file_fails_it(read: ReadRows, text: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"begins in line 2 of .* look like rows of their own"):
        read("customers", csv_file(text))


@pytest.mark.parametrize(
    "value", ["Dublin\nIreland", "warm, soft\nred, blue", "a,b,c\nd,e,f", "\n", "one\ntwo\nthree, four"]
)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_values_of_several_lines_are_read(read: ReadRows, value: str, quoting: Any) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting).writerows([("source_id", "name"), ("c1", value), ("c2", "Bob")])

    assert [record["name"] for record in read("customers", csv_file(text.getvalue())).records] == [value, "Bob"]


def test_a_value_of_several_lines_in_a_file_of_quoted_values_may_look_like_rows(read: ReadRows) -> None:
    done = read("customers", csv_file('"source_id","name"\n"c1","Ann\nc2,Bob"\n'))

    assert done.record == {"source_id": "c1", "name": "Ann\nc2,Bob"}


SPARK = {"escapechar": "\\"}


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (SPARK, 'source_id,name\nc1,"TV 27\\", ""flat"""\nc2,"\\"\\""\nc3,C:\\new\nc4,"a\\\\b"\nc5,\\N\n'),
        ("excel-tab", 'source_id\tname\nc1\t"TV 27"", ""flat"""\nc2\t""""""\nc3\tC:\\new\nc4\ta\\b\nc5\t\n'),
        (
            {"delimiter": ";", "quotechar": "'"},
            'source_id;name\nc1;TV 27", "flat"\nc2;""\nc3;\'C:\\new\'\nc4;a\\b\nc5;\n',
        ),
        (
            {"delimiter": "|", "quoting": csv.QUOTE_NONE, "quotechar": None, "escapechar": "\\"},
            'source_id|name\nc1|TV 27", "flat"\nc2|""\nc3|C:\\new\nc4|a\\\\b\nc5|\\N\n',
        ),
    ],
    ids=["spark", "registered", "semicolons", "no quotes"],
)
def test_other_dialects_are_read(read: ReadRows, dialect: Any, text: str) -> None:
    done = read("customers", from_file(io.BytesIO(text.encode()), "rows.csv", dialect))

    names = [record.get("name") for record in done.records]
    assert names == ['TV 27", "flat"', '""', "C:\\new", "a\\b", None]


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("spark", "csv_dialect='spark' is not registered; it may be excel"),
        (["\\"], "csv_dialect must be a dict or a dialect's name"),
        ({"escape": "\\"}, "an unknown member 'escape'; it may have delimiter, quotechar, escapechar"),
        ({"strict": False}, "an unknown member 'strict'"),
        ({"delimiter": "||"}, "needs one character for delimiter, not '||'"),
        ({"delimiter": None}, "needs one character for delimiter, not None"),
        ({"delimiter": "\n"}, "needs one character for delimiter"),
        ({"quotechar": ""}, "needs one character for quotechar"),
        ({"delimiter": '"'}, "one character for two of delimiter, quotechar and escapechar"),
        ({"doublequote": "no"}, "needs True or False for doublequote"),
        ({"quoting": csv.QUOTE_NONNUMERIC}, "needs csv.QUOTE_MINIMAL, QUOTE_ALL or QUOTE_NONE"),
        ({"quoting": "all"}, "needs csv.QUOTE_MINIMAL, QUOTE_ALL or QUOTE_NONE"),
    ],
    ids=repr,
)
def test_a_dialect_that_is_none_is_a_mistake(dialect: Any, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=re.escape(said)):
        from_file(io.BytesIO(b""), "rows.csv", dialect)


def test_all_mistakes_of_a_dialect_are_told_at_once() -> None:
    with pytest.raises(VoucherifyConfigurationError) as told:
        csv_options({"delimiter": ";;", "escape_char": "\\"})

    assert "needs one character for delimiter, not ';;'" in str(told.value)
    assert "an unknown member 'escape_char'" in str(told.value)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_header_with_another_delimiter_says_how_to_read_it(delimiter: str) -> None:
    text = f"source_id{delimiter}name\nc1{delimiter}Ann\n"

    with Plan(update_destination("customers")) as plan, pytest.raises(VoucherifyConfigurationError) as told:
        plan.read(csv_file(text))

    advice = f'csv_dialect={{"delimiter": {json.dumps(delimiter)}}}'
    assert "no column gives source_id" in str(told.value)
    assert advice in str(told.value)


def test_rows_without_any_value_are_skipped_and_counted_apart() -> None:
    """Excel leaves them at the end; each of them would fail the task."""
    text = "source_id,name,city\nc1,Ann,\n,,\n\n ,\t,\u00a0\nc2,,\n,,,,\n\n"
    with Plan(update_destination("customers")) as plan:
        plan.read(csv_file(text))

    assert (plan.rows_read, plan.refused, plan.blank_rows) == (2, 0, 5)


def test_packed_files_are_read_piece_by_piece(read: ReadRows) -> None:
    packed = gzip.compress(b"source_id,name\nc1,Ann\n") + gzip.compress(b"c2,Bob\n")

    records = read("customers", from_file(io.BytesIO(packed), "s3://bucket/rows.CSV.gz")).records

    assert [record["source_id"] for record in records] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (
            gzip.compress(b"source_id\n" * 9)[:-12],
            "rows.csv.gz",
            "rows.csv.gz is incomplete: the gzipped file ends too early",
        ),
        (gzip.compress(b"{}\n" * 9)[:-1] + b"x", "rows.jsonl.gz", "rows.jsonl.gz cannot be unpacked: "),
        (b"source_id\n", "rows.csv.gz", "rows.csv.gz cannot be unpacked: Not a gzipped file"),
        (gzip.compress(b"source_id\n"), "rows.csv", "rows.csv is packed with gzip: its name must end in .gz"),
        (b"PK\x03\x04", "rows.csv", "rows.csv is a ZIP or Excel file"),
        ("source_id".encode("utf-16"), "rows.jsonl", "rows.jsonl is in UTF-16"),
        (b"PAR1", "rows.csv", "rows.csv is a Parquet file"),
    ],
    ids=["truncated", "damaged", "not packed", "packed by another name", "excel", "utf-16", "parquet"],
)
def test_a_file_that_is_not_what_its_name_says_is_a_mistake(
    read: ReadRows, content: bytes, name: str, said: str
) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        read("customers", from_file(io.BytesIO(content), name))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_line_without_end_is_a_mistake_and_not_held_in_memory(
    read: ReadRows, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("airflow_provider_voucherify.sync.rows.text_files.MAX_LINE_BYTES", 100_000)

    packed = gzip.compress(b"source_id\n" + b"x" * 1_000_000)
    with pytest.raises(VoucherifyConfigurationError, match=f"line 2 of rows.{ending}.gz has more than 100,000 bytes"):
        read("customers", from_file(io.BytesIO(packed), f"rows.{ending}.gz"))


def test_long_values_are_read_and_too_long_ones_refused_by_their_size(read: ReadRows) -> None:
    done = read("customers", csv_file(f"source_id,bio\nc1,{'x' * 1_200_000}\nc2,{'x' * 10_485_760}\nc3,x\n"))

    assert [(record["source_id"], len(record["metadata"]["bio"])) for record in done.records] == [
        ("c1", 1_200_000),
        ("c3", 1),
    ]
    assert [key for key, _ in done.reasons] == ["record_too_large"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_in_the_middle_of_a_file_is_no_record(read: ReadRows, mark: str) -> None:
    done = read("customers", csv_file(f"source_id,name\nc1,Ann\n{mark}source_id,name\nc2,Bob\n"))

    assert [record["source_id"] for record in done.records] == ["c1", "c2"]
    assert (done.rows_read, len(done.reasons)) == (3, 1)
    assert "line 3 is the header once more" in str(done.reasons)


@pytest.mark.parametrize("text", ["", "source_id,name\n"])
def test_a_file_without_rows_is_no_mistake(read: ReadRows, text: str) -> None:
    assert read("customers", csv_file(text)).rows_read == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source_id,a,b,b,a\nc,1,2,3,4\n", "several columns have the name 'a', 'b'"),
        (b"source_id,name\n" + b"c1,Ann\n" * 40_000 + b"c2,\xff\n", "line 40,002 of .* is not UTF-8 .byte 0xff."),
        ("source_id;name\nc1;Ann\n", "no column gives source_id.*'source_id;name'"),
        ("c1,Ann\n", "no column gives source_id.*'c1', 'Ann'"),
        ('source_id,"name\nc1,Ann\nc2,B"\nc3,C\n', "the header of .* has 3 lines, of which some look like rows"),
    ],
)
def test_a_file_of_another_form_is_a_mistake(read: ReadRows, text: str | bytes, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        read("customers", csv_file(text))


@pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.parquet.gz", "rows.gz", "rows.json", "csv"])
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
