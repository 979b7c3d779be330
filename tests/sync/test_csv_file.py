"""A CSV file on its way to an import: refused where Voucherify might misread it, cut between rows where it is large."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.csv_file import CsvFile


def read(content: bytes, resource: str = "customers", max_bytes: int = 10_000) -> CsvFile:
    file = CsvFile(CSV_IMPORT_ENDPOINTS[resource], max_bytes)
    file.read(io.BytesIO(content))
    return file


def contents(file: CsvFile) -> list[bytes]:
    return [b"".join(batch.content()) for batch in file.batches]


def test_a_file_that_fits_is_sent_as_it_is() -> None:
    content = 'Source_id,Name\r\nc1,"Zoë ""Z"""\r\nc2,"a\r\n\r\nb"\r\n'.encode()
    with read(content) as file:
        assert contents(file) == [content]
        assert (file.rows, [batch.length for batch in file.batches]) == (2, [len(content)])


def test_a_byte_order_mark_and_empty_lines_are_left_out_and_the_last_line_ended() -> None:
    with read(b"\xef\xbb\xbf\r\nSource_id,Name\n\nc1,Ann\n\n\nc2,Bo") as file:
        assert contents(file) == [b"Source_id,Name\nc1,Ann\nc2,Bo\n"]


def test_rows_without_any_value_are_left_out_and_counted() -> None:
    """Excel leaves such lines at the end, and each would create a customer without an id with every import."""
    with read(b"Source_id,Name\nc1,Ann\n,\n\nc2,Bo\n , \n,,,\n") as file:
        assert contents(file) == [b"Source_id,Name\nc1,Ann\nc2,Bo\n"]
        assert (file.rows, file.blank_rows, file.has_ids) == (2, 4, True)


def test_a_packed_file_is_sent_unpacked() -> None:
    content = b"Source_id,Name\nc1,Ann\n"
    with CsvFile(CSV_IMPORT_ENDPOINTS["customers"], 10_000) as file:
        file.read(io.BytesIO(gzip.compress(content)), "customers.csv.gz")
        assert contents(file) == [content]

    with pytest.raises(VoucherifyConfigurationError, match=r"customers.csv.gz is incomplete"):
        CsvFile(CSV_IMPORT_ENDPOINTS["customers"], 10_000).read(
            io.BytesIO(gzip.compress(content)[:-9]), "customers.csv.gz"
        )


def test_a_large_file_is_cut_between_rows_each_part_with_the_header() -> None:
    rows = [f'c{n},"x\n{n}"\n' for n in range(10)]
    with read(("Source_id,Name\n" + "".join(rows)).encode(), max_bytes=15 + 3 * 9) as file:
        assert [batch.records for batch in file.batches] == [3, 3, 3, 1]
        assert [batch.first_row for batch in file.batches] == [1, 4, 7, 10]
        assert all(content.startswith(b"Source_id,Name\nc") for content in contents(file))
        assert list(file.values(file.batches[1], {5})) == [(5, {"Source_id": "c4", "Name": "x\n4"})]


def test_a_part_is_cut_into_halves_of_its_rows() -> None:
    with read(b'Source_id,Name\nc1,"a\nb"\n,Bo\nc3,Cy\n') as file:
        file.split(file.batches[0])

        assert contents(file) == [b'Source_id,Name\nc1,"a\nb"\n', b"Source_id,Name\n,Bo\nc3,Cy\n"]
        shape = [(batch.first_row, batch.records, batch.has_ids) for batch in file.batches]
        assert shape == [(1, 1, True), (2, 2, False)]
        assert list(file.values(file.batches[1], {3})) == [(3, {"Source_id": "c3", "Name": "Cy"})]


def test_a_byte_order_mark_within_the_file_is_a_character_like_any_other() -> None:
    content = "Source_id,Name\nc1,Ann\n\ufeffc2,Bo\n".encode()
    with read(content) as file:
        file.split(file.batches[0])

        assert b"".join(contents(file)[1:]) == "Source_id,Name\n\ufeffc2,Bo\n".encode()


@contextmanager
def read_unless_rows_look_like_several(text: str, max_bytes: int) -> Iterator[CsvFile]:
    """Read a file; drop the example if one of its rows is refused since its lines look like rows of their own."""
    try:
        file = read(text.encode(), max_bytes=max_bytes)
    except VoucherifyConfigurationError as error:
        assume("look like rows of their own" not in str(error))
        raise
    with file:
        yield file


CELLS = st.text(st.sampled_from('abż",\n\r ;😀'), max_size=6)


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=30),
    ending=st.sampled_from(["\n", "\r\n"]),
    max_bytes=st.integers(100, 400),
)
def test_the_parts_together_are_the_file(rows: list[tuple[str, str]], ending: str, max_bytes: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows([("source_id", "Name"), *rows])

    with read_unless_rows_look_like_several(text.getvalue(), max_bytes) as file:
        found: list[tuple[str, ...]] = []
        for batch, content in zip(file.batches, contents(file), strict=True):
            assert len(content) == batch.length <= max_bytes
            header, *of_batch = csv.reader(io.StringIO(content.decode(), newline=""))
            assert header == ["source_id", "Name"]
            assert len(of_batch) == batch.records
            assert batch.has_ids == all(row[0].strip() for row in of_batch)
            found += map(tuple, of_batch)
            everything = range(batch.first_row, batch.first_row + batch.records)
            values = [tuple(row.values()) for _, row in file.values(batch, everything)]
            assert values == list(map(tuple, of_batch))

    with_values = [row for row in rows if "".join(row).strip()]
    assert found == with_values
    assert (file.rows, file.blank_rows) == (len(with_values), len(rows) - len(with_values))


def test_a_digest_tells_content_and_destination() -> None:
    with (
        read(b"name,source_id\nA,1\n") as one,
        read(b"name,source_id\nA,1\n") as same,
        read(b"name,source_id\nA,2\n") as other,
        read(b"name,source_id\nA,1\n", "products") as elsewhere,
    ):
        digests = [file.batches[0].digest() for file in (one, same, other, elsewhere)]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("content", "has_ids"),
    [
        (b"Source_id,Name\nc1,Ann\n", True),
        (b"SOURCE_ID,Name\nc1,Ann\n,Bo\n", False),
        (b"Id,Source_id\ncust_1,\n,c1\n", False),
        (b"Id,Source_id\ncust_1,c1\n", True),
        (b"Source_id,Name\n ,Ann\n", False),
        (b"Name\nAnn\n", False),
        (b"Name\n", True),
    ],
)
def test_whether_all_rows_name_their_records(content: bytes, has_ids: bool) -> None:
    with read(content) as file:
        assert file.has_ids is has_ids


@pytest.mark.parametrize(
    ("resource", "content"),
    [
        ("customers", b"Name,id\nAnn,cust_1\n"),
        ("products", b"name,id\nShirt,p1\n"),
        ("skus", b"product_id,id,source_id\np1,s1,\n"),
    ],
)
def test_a_column_id_names_no_record_that_is_to_be_created(resource: str, content: bytes) -> None:
    with read(content, resource) as file:
        assert not file.has_ids


@pytest.mark.parametrize(
    ("content", "resource", "said"),
    [
        (b"", "customers", "has no header row"),
        (b"\n\n", "customers", "has no header row"),
        (b"Source_id;Name\nc1;Ann\n", "customers", "not separated by commas: 'Source_id;Name'"),
        (b"Source_id\tName\n", "customers", "not separated by commas"),
        (b"Source_id,Name,name\n", "customers", "more than one column 'name'"),
        (b"Source_id,first name\n", "customers", "have white space, and the CSV file has 'first name'"),
        (b"Source_id,\n", "customers", "empty or have white space, and the CSV file has ''"),
        (b"source_id,price\n", "products", "has no column name, which an import of products requires"),
        (b"c1,Ann\nc2,Bo\n", "customers", "does not begin with the names of its columns: 'c1', 'Ann' would all become"),
        (b'{"source_id":"c1"}\n', "customers", "does not begin with the names of its columns"),
        (b"Customers\nSource_id,Name\nc1,Ann\n", "customers", "does not begin with the names of its columns"),
        (b'Source_id,Name,City\nc1,"Bo,X\nc2,"",Y\nc3,Cy",Z\n', "customers", "look like rows of their own"),
        (b"sku,price\n", "skus", "has no column source_id, product_id, which an import of skus requires"),
        (b"Source_id,Name\nc1,Ann\nc2\n", "customers", "line 3 has 1 value for 2 columns"),
        (b"Source_id,Name\nc1,Ann,Lee\n", "customers", "line 2 has 3 values for 2 columns"),
        (b'Source_id,Name\nc1,"Ann\n', "customers", "line 2 is not valid CSV: unexpected end of data"),
        (b'Source_id,Name\nc1,"Ann"Lee\n', "customers", "line 2 is not valid CSV"),
        (b"Source_id,Name\rc1,Ann\r", "customers", "line 1 is not valid CSV"),
        (b'Source_id,Name\nc1,Ann\nc2,"Bo\nc3,Cy\nc4,Di\n', "customers", "begins in line 3 .* and ends in line 5 is"),
        (b'Source_id,Name\nc1,"Bo\nc3,Cy\nc4,Di"\n', "customers", "begins in line 2 .* look like rows of their own"),
        (
            b'Source_id,Name\nc1,"27\\""\nc2,Bo\n',
            "customers",
            r'begins in line 2 .* it has ." in it, and the file is sent',
        ),
        (b"Source_id,Name\nc1,Zo\xeb\n", "customers", "line 2 of the CSV file is not UTF-8"),
        (b"\xff\xfeS\x00", "customers", "the CSV file is in UTF-16: save it as UTF-8"),
        (b"Source_id,Name\nc1," + b"x" * 10_000, "customers", "row 1 of the CSV file takes 10,004 bytes"),
    ],
)
def test_what_voucherify_might_misread_is_refused_whole(content: bytes, resource: str, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        read(content, resource)


@settings(max_examples=100)
@example(rows=[("x", ""), ("x,\n", "\n,")], places=[])
@given(
    rows=st.lists(st.tuples(CELLS.map("x{}".format), CELLS), min_size=2, max_size=30),
    places=st.lists(st.integers(0, 40), max_size=8),
)
def test_halves_can_be_found_again_by_their_numbers_of_rows(rows: list[tuple[str, str]], places: list[int]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("source_id", "Name"), *rows])
    with read(text.getvalue().encode(), max_bytes=400) as file, read(text.getvalue().encode(), max_bytes=400) as again:
        whole = contents(file)
        for place in places:
            batch = file.batches[place % len(file.batches)]
            if batch.records > 1:
                file.split(batch)
        counts = [batch.records for batch in file.batches]

        assert again.split_into(counts)
        assert (again.batches, contents(again)) == (file.batches, contents(file))
        header = b'"source_id","Name"\r\n'
        assert b"".join(part.removeprefix(header) for part in contents(file)) == b"".join(
            part.removeprefix(header) for part in whole
        )
        assert not again.split_into([*counts, 1])
        assert not again.split_into([counts[0] + 1, *counts[1:]])
        assert not again.split_into(counts[:-1])
