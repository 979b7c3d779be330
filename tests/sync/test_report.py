"""The report file, whose form is not documented: any of the likely ones is read, and nothing is made up."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tracemalloc
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_rows import ReportRow, one_by_one

from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.sync.results import report
from airflow_provider_voucherify.sync.results.report import read_report

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=6)
FLAGS = st.none() | st.booleans()
ROWS = st.lists(st.tuples(IDS, FLAGS, FLAGS), max_size=8)
WORDS = {True: ("true", "TRUE", "1", "yes"), False: ("false", "False", "0", "no"), None: ("", "null", "maybe")}

JSON_LINE = '{"source_id": "c{}", "found": true, "updated": false}\n'


def read(content: bytes, key: str = "source_id") -> list[ReportRow]:
    file = io.BytesIO(content)
    file.seek(0, io.SEEK_END)
    rows = list(one_by_one(read_report(file, key)))
    assert not file.closed
    return rows


def read_to_mistake(content: bytes) -> tuple[list[ReportRow], str | None]:
    rows = []
    try:
        for row in one_by_one(read_report(io.BytesIO(content), "source_id")):
            rows.append(row)
    except VoucherifyReportError as error:
        return rows, str(error)
    return rows, None


def as_rows(rows: Sequence[tuple[Any, Any, Any]]) -> list[ReportRow]:
    return [ReportRow(*row) for row in rows]


@given(
    rows=ROWS,
    columns=st.permutations(["source_id", "found", "updated", "created_at"]),
    delimiter=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    spell=st.sampled_from([str, str.upper, str.title, " {} ".format]),
    word=st.integers(0, 20),
)
def test_csv_is_read_however_it_is_written(
    rows: list[tuple[str, bool | None, bool | None]],
    columns: list[str],
    delimiter: str,
    line_end: str,
    encoding: str,
    spell: Any,
    word: int,
) -> None:
    """Columns in any order and case, other columns, quoted delimiters and line ends, byte order marks, UTF-16."""
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if line_end == "\n" else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow([spell(name) for name in columns])
    for record_id, found, updated in rows:
        words = {"found": WORDS[found], "updated": WORDS[updated], "source_id": (record_id,), "created_at": ("x",)}
        writer.writerow([words[name][word % len(words[name])] for name in columns])
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")

    assert read((mark + text.getvalue()).encode(encoding)) == as_rows(rows)


FIELDS = st.sampled_from(
    ["", "a", "b", " c ", "true", "false", "1", "é", "x" * 9, "\x0b", "\u2028", ",", "\n", '"', '"q"', '"q,\r\n"']
)
LINES = st.lists(
    st.tuples(
        st.lists(FIELDS, min_size=3, max_size=3) | st.lists(FIELDS, max_size=5),
        st.sampled_from(["\n", "\n", "\r\n", "\r", ""]),
    ),
    max_size=12,
)


@given(
    LINES, st.sampled_from(["source_id", "updated", "found"]), st.sampled_from(",;"), st.integers(1, 40), st.booleans()
)
def test_however_csv_is_read_it_says_the_same(
    lines: list[tuple[list[str], str]], first: str, delimiter: str, at_once: int, quoted: bool
) -> None:
    """Split all at once, or by a reader of CSV; in pieces of any size; up to the same mistake."""
    header = sorted(("source_id", "found", "updated"), key=first.__ne__)
    quote = '"' if quoted else ""
    rows = [(delimiter.join(f"{quote}{field}{quote}" for field in fields), end) for fields, end in lines]
    text = "".join(line + end for line, end in [(delimiter.join(header), "\n"), *rows])

    together = read_to_mistake(text.encode())
    with patch.object(report, "_CHARACTERS_PER_READ", at_once):
        in_pieces = read_to_mistake(text.encode())
        with patch.object(report, "_split", return_value=None):
            line_by_line = read_to_mistake(text.encode())

    assert together == in_pieces == line_by_line


@given(rows=ROWS, lines=st.booleans(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), ascii=st.booleans())
def test_json_is_read_as_a_list_or_as_lines(
    rows: list[tuple[str, bool | None, bool | None]], lines: bool, encoding: str, ascii: bool
) -> None:
    records = [{"updated": u, "x": [1], "found": f, "code": i} for i, f, u in rows]
    documents = [json.dumps(record, ensure_ascii=ascii) for record in records]
    text = "\n\n".join(documents) if lines else f" \n[{', '.join(documents)}]"

    if lines and not rows:
        with pytest.raises(VoucherifyReportError, match="empty"):
            read(text.encode(encoding), "code")
    else:
        assert read(text.encode(encoding), "code") == as_rows(rows)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("source_id,found,updated\n", []),
        ("\n\nsource_id,found,updated\nc1,true,true\n", [("c1", True, True)]),
        ("source_id,found,updated\n\nc1,true,true\n\n", [("c1", True, True)]),
        ("source_id,found,updated\nc1,true,true,more\n", [("c1", True, True)]),
        ('source_id,found,updated\n"two\r\nlines, ""quoted""",true,true\n', [('two\r\nlines, "quoted"', True, True)]),
        ("id,Source ID,Updated\n1,c1,true\n", [("c1", None, True)]),
        ("source-id;Found;UPDATED\nc1;false;true\n", [("c1", False, True)]),
        ('[{"Source ID": "c1", "Found": true, "Updated": true}]', [("c1", True, True)]),
        ("source_id,updated\nc1,\n", [("c1", None, None)]),
        ("updated;source_id\n1;a,b\n", [("a,b", None, True)]),
        ('[{"source_id": 7, "found": 1, "updated": 0}]', [("7", True, False)]),
        ('{"source_id": null, "updated": "true"}', [(None, None, True)]),
        ("[]", []),
    ],
    ids=repr,
)
def test_odd_but_readable_reports(content: str, rows: list[Any]) -> None:
    assert read(content.encode()) == as_rows(rows)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the report is empty"),
        (b" \n\t\n", "the report is empty"),
        (b"\xef\xbb\xbf", "the report is empty"),
        (b"id,updated\nc1,true\n", "no column 'source_id', only id, updated"),
        (b"source_id,Source ID,updated\na,b,true\n", "more than one 'source_id'"),
        (b'[{"updated": true}]', "a row without 'source_id'"),
        (b"[{}]", "a row without 'updated'"),
        (b"source_id,found\nc1,true\n", "no column 'updated', only source_id, found"),
        (b"<html><body>Access denied</body></html>", "no column 'updated'"),
        (b"\x1f\x8b\x08\x00", "cannot be read|no column"),
        (b"source_id,found,updated\nc1,true,true\nc2,tr", "line 3 of the report has 2 of 3 values; it may be cut off"),
        (b'source_id,found,updated\nc1,true,true\n"c2', "cannot be read: unexpected end of data"),
        (b"source_id,found,updated\n\xff,true,true\n", "cannot be read"),
        (b'[{"source_id": "c1", "updated": true}, {"sou', "cannot be read"),
        (b'{"source_id": "c1", "updated": true}\n{"sou', "cannot be read"),
        (b'[{"source_id": "c1"}]', "a row without 'updated'"),
        (b"[1]", "a row without 'updated'"),
        (b'{"code":401,"message":"Unauthorized"}', "a row without 'updated'"),
        (b"[" * 100_000, "cannot be read"),
        ("source_id,found,updated\nc1,true,true".encode("utf-16")[:-1], "cannot be read"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_report_that_cannot_be_relied_on_is_an_error(content: bytes, said: str) -> None:
    with pytest.raises(VoucherifyReportError, match=said):
        read(content)


@pytest.mark.parametrize("row", ["c{},true,false\n", '"c{}",true,false\n', "ł{},true,false\n", JSON_LINE], ids=repr)
@pytest.mark.parametrize("byte", [b"\xff", b"\xe4c"], ids=repr)
@pytest.mark.parametrize(("number", "at_once"), [(1, 14), (1, 16), (3_000, 32 * 1024)])
def test_rows_before_a_byte_that_is_not_utf_8_are_read(row: str, byte: bytes, number: int, at_once: int) -> None:
    head = "" if row == JSON_LINE else "source_id,found,updated\n"
    broken = row.encode().replace(b"{}", byte)
    content = (head + "".join(row.replace("{}", str(place)) for place in range(number))).encode() + broken

    with patch.object(report, "_CHARACTERS_PER_READ", at_once):
        rows, mistake = read_to_mistake(content + row.encode() * 3_000)

    assert [one[1:] for one in rows] == [(True, False)] * number
    assert mistake == f"the report cannot be read: byte 0x{byte.hex()[:2]} cannot be decoded"


@pytest.mark.parametrize(("broken", "byte"), [(b"\x00\xd8", "00"), (b"c", "63")], ids=["surrogate", "cut"])
def test_rows_before_a_byte_that_is_not_utf_16_are_read(broken: bytes, byte: str) -> None:
    whole = "source_id,found,updated\n" + "c1,true,false\n" * 3_000

    rows, mistake = read_to_mistake(whole.encode("utf-16") + broken)

    assert [one[1:] for one in rows] == [(True, False)] * 3_000
    assert mistake == f"the report cannot be read: byte 0x{byte} cannot be decoded"


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_comes_is_read_or_is_an_error_of_the_report(content: bytes) -> None:
    with contextlib.suppress(VoucherifyReportError):
        assert all(isinstance(row, ReportRow) for row in read(content))


def test_a_large_report_is_read_in_little_memory() -> None:
    file = io.BytesIO(b"source_id,found,updated\n" + b"customer-number-1,true,true\n" * 50_000)
    tracemalloc.start()
    count = sum(row.updated is True for row in one_by_one(read_report(file, "source_id")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (count, peak < 1_000_000) == (50_000, True)


@pytest.mark.parametrize(
    "content",
    [
        b"updated," + b"x" * 5_000_000,
        b"source_id,updated\n" + b"x" * 5_000_000,
        b'{"updated": "' + b"x" * 5_000_000 + b'"}',
    ],
    ids=["header", "row", "JSON lines"],
)
def test_a_line_that_could_fill_the_memory_is_an_error(content: bytes) -> None:
    with pytest.raises(VoucherifyReportError, match="line of more than 4,000,000 characters"):
        read(content)


def test_an_array_that_could_fill_the_memory_is_an_error() -> None:
    with pytest.raises(VoucherifyReportError, match="JSON array of more than"):
        read(b"[" + b" " * (64 * 1024 * 1024) + b"]")
