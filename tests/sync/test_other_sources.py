"""JSON lines, Parquet files and database cursors."""

from __future__ import annotations

import datetime as dt
import io
import json
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import ROWS_AT_FIRST, ROWS_PER_CHUNK, Chunk
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_cursor, from_file, from_records
from airflow_provider_voucherify.sync.rows.sources import json_lines as json_lines_source

ReadRows = Callable[..., Any]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def json_lines(*lines: str | bytes) -> Iterator[Any]:
    data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    return from_file(io.BytesIO(data), "rows.jsonl")


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
NAMES = TEXTS | st.sampled_from(["a", "b", 'quoted "name"', "back\\slash", "\n"])


@given(
    st.lists(NAMES, max_size=4, unique=True),
    st.lists(st.permutations(range(4)) | st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=6),
    st.lists(
        VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(TEXTS, VALUES, max_size=2), min_size=5, max_size=5
    ),
    st.booleans(),
)
def test_lines_that_are_read_together_say_the_same_as_one_by_one(
    names: list[str], orders: list[Sequence[int]], values: list[Any], ascii: bool
) -> None:
    """With the same members in any order, and members that are missing, more, or there twice."""
    lines = []
    for order in orders:
        pairs = [(names[place], value) for place, value in zip(order, values, strict=False) if place < len(names)]
        members = (f"{json.dumps(name, ensure_ascii=ascii)}:{json.dumps(value)}" for name, value in pairs)
        lines.append(f"{{{','.join(members)}}}")

    def read_rows() -> list[dict[str, Any]]:
        return [dict(zip(part.columns, row, strict=True)) for part in json_lines(*lines) for row in part.rows]

    together = read_rows()
    with patch.object(json_lines_source, "_chunk_of_lines", return_value=None):
        one_by_one = read_rows()

    assert together == one_by_one == [json.loads(line, parse_float=Decimal) for line in lines]


@given(st.lists(st.dictionaries(TEXTS.map("x{}".format), st.integers() | TEXTS | st.none(), max_size=3), max_size=10))
def test_json_lines_are_read_whatever_members_each_has(read: ReadRows, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps({"source_id": str(n)} | row, ensure_ascii=n % 2 == 0) for n, row in enumerate(rows)]

    done = read("customers", json_lines(*lines))

    too_big = [n for n, row in enumerate(rows) if any(abs(v) >= 2**63 for v in row.values() if isinstance(v, int))]
    sent = {record["source_id"]: record.get("metadata", {}) for record in done.records}
    for number, row in enumerate(rows):
        if number not in too_big:
            assert sent[str(number)] == {name: value for name, value in row.items() if value is not None}


def test_a_pattern_with_a_question_mark_is_refused_in_words() -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"after a \? counts as a URL's query, so only patterns"):
        from_file(io.BytesIO(), "part-?.csv")


def test_lines_that_are_no_objects_are_refused_and_counted(read: ReadRows) -> None:
    lines = (
        b'\xef\xbb\xbf{"source_id": "c1"}\r',
        "",
        "  ",
        "{",
        '{"source_id": "c2", "a": NaN}',
        '{"source_id": "\\ud800"}',
        b'{"source_id": "\xff"}',
        "[1]",
        '"c3"',
        "[" * 5_000,
        '{"source_id": "c4"}',
    )

    done = read("customers", json_lines(*lines))

    assert [record["source_id"] for record in done.records] == ["c1", "c4"]
    assert (done.rows_read, done.refused) == (9, 7)
    assert {key for key, _ in done.reasons} == {"invalid_line"}
    assert (done.reasons[0][1] or "").startswith("line 4 is not valid JSON: ")


@pytest.mark.parametrize(
    "line",
    [
        '{"source_id": "c2"}{"source_id": "c3"}',
        '{"source_id": "c2"}, {"source_id": "c3"}',
        '{"source_id": "c2"}\r{"source_id": "c3"}',
        '[{"source_id": "c2"}, {"source_id": "c3"}]',
    ],
)
def test_several_objects_in_a_line_fail_the_file(read: ReadRows, line: str) -> None:
    """They would count as one refused row, however many there are."""
    with pytest.raises(VoucherifyConfigurationError, match=r"line 2 of .* has several JSON objects"):
        read("customers", json_lines('{"source_id": "c1"}', line, '{"source_id": "c4"}'))


def test_numbers_in_json_lines_stay_exact(read: ReadRows) -> None:
    (body,) = read("customers", json_lines('{"source_id": "c", "n": 12345678901234567890.123456789}')).bodies

    assert json.loads(body, parse_float=Decimal)[0]["metadata"]["n"] == Decimal("12345678901234567890.123456789")


def test_a_mapping_reads_lines_that_lack_some_of_its_columns(read: ReadRows) -> None:
    rules = MappingRules({"id": "source_id", "n": "name"})

    done = read("customers", json_lines('{"id": "c1", "n": "Ann", "x": 1}', '{"id": "c2"}', '{"n": "Bob"}'), rules)

    assert done.records == [{"source_id": "c1", "name": "Ann"}, {"source_id": "c2"}]
    assert done.reasons == [("missing_key", "source_id is missing")]


def test_the_limits_on_columns_hold_for_lines_that_lack_them(read: ReadRows) -> None:
    rules = MappingRules(metadata_columns=["a", "b"], exclude_columns=["b"])

    done = read("customers", json_lines('{"source_id": 1, "a": 1, "c": 1}', '{"source_id": 2, "b": 2}'), rules)

    assert done.records == [{"source_id": "1", "metadata": {"a": 1}}, {"source_id": "2"}]


@pytest.mark.parametrize("ending", ["parquet", "PARQUET"])
def test_parquet_keeps_its_types(read: ReadRows, ending: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    columns = {
        "source_id": ["c1", "c2"],
        "ltv": [Decimal("12.50"), None],
        "born": [dt.date(1980, 2, 29), None],
        "seen": [dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC), None],
        "tags": [["a", "b"], []],
        "address": [{"city": "Łódź"}, None],
    }
    parquet.write_table(pyarrow.table(columns), file)
    file.seek(0)

    done = read("customers", from_file(file, f"rows.{ending}"))

    metadata = {"ltv": 12.5, "born": "1980-02-29", "seen": "2024-01-02T03:04:05.000Z", "tags": ["a", "b"]}
    assert done.records == [
        {"source_id": "c1", "metadata": metadata, "address": {"city": "Łódź"}},
        {"source_id": "c2", "metadata": {"tags": []}},
    ]


def test_parquet_of_many_rows_comes_in_chunks() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"source_id": list(range(2_500))}), file)

    sizes = [len(chunk.rows) for chunk in from_file(file, "rows.parquet") if isinstance(chunk, Chunk)]

    assert (max(sizes) <= ROWS_PER_CHUNK, sum(sizes)) == (True, 2_500)


@pytest.mark.parametrize("content", [b"", b"source_id\n", b"PAR1"])
def test_a_parquet_file_that_is_none_is_a_mistake(read: ReadRows, content: bytes) -> None:
    pytest.importorskip("pyarrow")

    with pytest.raises(VoucherifyConfigurationError, match="parquet"):
        read("customers", from_file(io.BytesIO(content), "rows.parquet"))


def parquet_file(*columns: tuple[str, Any]) -> Iterator[Any]:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    table = pyarrow.Table.from_arrays([array for _, array in columns], names=[name for name, _ in columns])
    parquet.write_table(table, file)
    return from_file(io.BytesIO(file.getvalue()), "rows.parquet")


def test_a_date_that_python_does_not_have_refuses_its_row_alone(read: ReadRows) -> None:
    """Year 20000, and what databases export "infinity" as."""
    pyarrow = pytest.importorskip("pyarrow")
    days = pyarrow.array([0, 6_585_687, None], pyarrow.date32())
    moments = pyarrow.array([0, 0, 2**63 - 1], pyarrow.timestamp("us"))

    done = read("customers", parquet_file(("source_id", ["c1", "c2", "c3"]), ("since", days), ("seen", moments)))

    assert [record["source_id"] for record in done.records] == ["c1"]
    (first, why), (second, _) = done.reasons
    assert (first, second) == ("invalid_value", "invalid_value")
    assert why == "metadata.since (column since) has no form in Python: date value out of range ('20000-12-31')"
    assert json.loads(done.failures[0])["since"] == "20000-12-31"
    done = read(
        "customers",
        parquet_file(("source_id", ["c1", "c2"]), ("since", days[:2])),
        MappingRules(exclude_columns=["since"]),
    )
    assert done.refused == 0


def test_maps_in_parquet_are_objects(read: ReadRows) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    plain = pyarrow.map_(pyarrow.string(), pyarrow.string())
    nested = pyarrow.map_(pyarrow.string(), pyarrow.struct([("list", pyarrow.list_(plain))]))
    metadata = pyarrow.array([[("plan", "gold")], [("plan", "gold"), ("plan", "tin")], None, []], plain)
    extra = pyarrow.array([[("a", {"list": [[("b", "c")]]})], None, None, []], nested)

    done = read(
        "customers", parquet_file(("source_id", ["c1", "c2", "c3", "c4"]), ("metadata", metadata), ("extra", extra))
    )

    assert done.records[0] == {"source_id": "c1", "metadata": {"plan": "gold", "extra": {"a": {"list": [{"b": "c"}]}}}}
    assert [record["source_id"] for record in done.records] == ["c1", "c3", "c4"]
    assert "a map has a key twice" in str(done.reasons[0][1])


def test_long_rows_of_parquet_are_read_a_few_at_a_time() -> None:
    rows = parquet_file(("source_id", [str(n) for n in range(40)]), ("bio", [f"{n}" * 500_000 for n in range(10, 50)]))

    assert max(len(chunk.rows) for chunk in rows if isinstance(chunk, Chunk)) <= 8


def test_a_damaged_parquet_file_is_a_mistake_and_not_a_raw_error(read: ReadRows) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"source_id": [str(n) for n in range(5_000)]}), file, compression="snappy")
    damaged = bytearray(file.getvalue())
    damaged[100:2_000] = b"\xff" * 1_900

    with pytest.raises(VoucherifyConfigurationError, match=r"rows.parquet cannot be read: "):
        read("customers", from_file(io.BytesIO(damaged), "rows.parquet"))


def one_row(kind: str, *names: str) -> Iterator[Any]:
    """Give a source of one row, with 1 in each column."""
    if kind == "sql":
        left: list[list[Any]] = [[("1",) * len(names)], []]
        return from_cursor(names, lambda size: left.pop(0))
    if kind == "parquet":
        return parquet_file(*((name, ["1"]) for name in names))
    return from_file(io.BytesIO(f"{','.join(names)}\n{','.join('1' * len(names))}\n".encode()), "rows.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet", "sql"])
def test_two_columns_of_one_name_are_a_mistake_unless_neither_is_sent(read: ReadRows, kind: str) -> None:
    names = ("source_id", "email", "email", "city")
    with pytest.raises(VoucherifyConfigurationError, match=r"several columns have the name 'email'.*exclude_columns"):
        read("customers", one_row(kind, *names))
    with pytest.raises(VoucherifyConfigurationError, match=r"several columns have the name 'email'.*of the mapping"):
        read("customers", one_row(kind, *names), MappingRules({"source_id": "source_id", "email": "email"}))

    for rules in (
        MappingRules(exclude_columns=["EMAIL"]),
        MappingRules({"source_id": "source_id", "city": "metadata.city"}),
    ):
        assert read("customers", one_row(kind, *names), rules).record == {"source_id": "1", "metadata": {"city": "1"}}


@pytest.mark.parametrize("kind", ["csv", "parquet", "sql", "jsonl", "records"])
def test_columns_without_a_name_of_their_own_are_left_out_and_named(kind: str) -> None:
    """A key of metadata can never be removed, and the index that pandas writes changes every night."""
    names = ("source_id", "", "__index_level_0__", "?column?", "city")
    row = dict.fromkeys(names, "1")

    def source() -> Any:
        if kind == "jsonl":
            return from_file(io.BytesIO(json.dumps(row).encode()), "rows.jsonl")
        return from_records([row], "source_id") if kind == "records" else one_row(kind, *names)

    def sent(rules: MappingRules) -> tuple[Any, list[str]]:
        with Plan(update_destination("customers"), rules) as plan:
            plan.read(source())
            return json.loads(b"".join(plan.batches[0].body()))[0].get("metadata"), plan.warnings

    metadata, [warning] = sent(MappingRules())
    assert metadata == {"city": "1"}
    assert "are not sent: '', '__index_level_0__', '?column?'; exclude_columns leaves them out without" in warning
    assert sent(MappingRules(exclude_columns=["", "__index_level_0__", "?column?"])) == ({"city": "1"}, [])
    mapped = {"source_id": "source_id", "": "metadata.number", "__index_level_0__": "metadata.index"}
    assert sent(MappingRules(mapped)) == ({"number": "1", "index": "1"}, [])


def test_blanks_around_the_names_of_columns_are_told() -> None:
    with Plan(update_destination("customers"), MappingRules()) as plan:
        plan.read(from_file(io.BytesIO(b"source_id, name, tier\nc1, Ann, gold\nc2, Bob, gold\n"), "rows.csv"))
        [warning] = plan.warnings

    assert "begin or end with a blank are members of metadata by these names: ' name', ' tier'" in warning


def test_excel_s_empty_columns_are_no_two_columns_of_one_name(read: ReadRows) -> None:
    assert read("customers", from_file(io.BytesIO(b"source_id,,,\nc1,,,\n"), "r.csv")).record == {"source_id": "c1"}


def test_column_names_may_come_as_bytes(read: ReadRows) -> None:
    left: list[list[Any]] = [[("c", "Ann")], []]
    names: list[Any] = [b"source_id", "name"]
    assert read("customers", from_cursor(names, lambda size: left.pop(0))).record == {"source_id": "c", "name": "Ann"}

    for name, said in ((b"\xff", "is not UTF-8: name it with AS"), (None, "whose name is None: name it with AS")):
        unnamed: list[Any] = ["source_id", name]
        with pytest.raises(VoucherifyConfigurationError, match=said):
            read("customers", from_cursor(unnamed, lambda size: []))


@pytest.mark.parametrize("row_factory", [None, sqlite3.Row])
def test_a_cursor_is_read_to_its_end_in_chunks(read: ReadRows, row_factory: Any) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.row_factory = row_factory
        numbers = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) SELECT i, i % 7 FROM n"
        )
        cursor = database.execute(numbers)
        asked: list[int] = []

        def fetchmany(size: int) -> Any:
            asked.append(size)
            return cursor.fetchmany(size)

        done = read("customers", from_cursor(["source_id", "rest"], fetchmany))

    assert (done.rows_read, len(done.records)) == (2_500, 2_500)
    assert done.records[-1] == {"source_id": "2500", "metadata": {"rest": 1}}
    assert asked == [ROWS_AT_FIRST, *[ROWS_PER_CHUNK] * 4]


def test_a_cursor_of_dicts_is_read_by_its_columns(read: ReadRows) -> None:
    left: list[list[Any]] = [[{"source_id": "c", "name": "Ann"}], []]

    done = read("customers", from_cursor(["source_id", "name"], lambda size: left.pop(0)))

    assert done.record == {"source_id": "c", "name": "Ann"}


@given(st.lists(st.sampled_from(["a", 1, {"source_id": "b"}, {"n": 1, "source_id": "c"}, {"source_id": "d", "n": 1}])))
def test_records_of_changing_members_keep_their_order(records: list[Any]) -> None:
    read = from_records(iter(records), "source_id", takes_ids=True)
    chunks = [chunk for chunk in read if isinstance(chunk, Chunk)]

    rows = [dict(zip(chunk.columns, row, strict=True)) for chunk in chunks for row in chunk.rows]
    assert rows == [record if isinstance(record, dict) else {"source_id": record} for record in records]


class Part(list[Any]):
    """A list that can be watched."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Parts(Sequence[Part]):
    """What the tasks of a mapped one have returned, fetched when it is asked for, as Airflow's lazy sequence does."""

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._alive: weakref.WeakSet[Part] = weakref.WeakSet()
        self.most = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if index >= self._count:
            raise IndexError(index)
        part = Part({"source_id": f"{index}-{number}"} for number in range(self._size))
        self._alive.add(part)
        self.most = max(self.most, len(self._alive))
        return part


def test_lists_of_records_are_joined_and_fetched_one_by_one(read: ReadRows) -> None:
    parts = Parts(count=3_000, size=2)

    done = read("customers", from_records(parts, "source_id"))

    assert [record["source_id"] for record in done.records] == [f"{n}-{m}" for n in range(3_000) for m in range(2)]
    assert parts.most <= 2
