"""Rows that are in memory: what knows its column names is read by them, what does not is never guessed at."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from copy import deepcopy
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import metadata_destination
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_records, in_memory

ReadRows = Callable[..., Any]
ANN_AND_BOB = [{"source_id": "c1", "name": "Ann"}, {"source_id": "c2", "name": "Bob"}]
NAMES = ["source_id", "name"]


class Customer(NamedTuple):
    source_id: str
    name: str


class OtherMapping(Mapping[str, str]):
    def __init__(self, **members: str) -> None:
        self.members = members

    def __getitem__(self, name: str) -> str:
        return self.members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


def sqlite_rows() -> list[Any]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.row_factory = sqlite3.Row
        return database.execute("select 'c1' as source_id, 'Ann' as name union all select 'c2', 'Bob'").fetchall()


@pytest.mark.parametrize(
    "records",
    [
        [Customer("c1", "Ann"), Customer("c2", "Bob")],
        [namedtuple("Pair", NAMES)("c1", "Ann"), namedtuple("Pair", NAMES)("c2", "Bob")],
        [Customer("c1", "Ann"), {"source_id": "c2", "name": "Bob"}],
        [OrderedDict(ANN_AND_BOB[0]), MappingProxyType(ANN_AND_BOB[1])],
        [OtherMapping(**one) for one in ANN_AND_BOB],
        sqlite_rows(),
        (one for one in ANN_AND_BOB),
        [ANN_AND_BOB[:1], [], ANN_AND_BOB[1:]],
        [ANN_AND_BOB[0], ANN_AND_BOB[1:]],
    ],
    ids=["named tuples", "two classes", "mixed", "mappings", "any mapping", "sqlite", "generator", "lists", "one list"],
)
def test_rows_that_know_their_names_are_read_by_them(read: ReadRows, records: Any) -> None:
    done = read("customers", from_records(records, "source_id"))

    assert (done.records, done.rows_read) == (ANN_AND_BOB, 2)


@pytest.mark.parametrize(
    "made",
    [
        lambda result: result,
        lambda result: result.mappings(),
        lambda result: result.all(),
        lambda _: pytest.importorskip("pandas").DataFrame(ANN_AND_BOB).to_records(index=False),
        lambda _: pytest.importorskip("pyarrow").array(ANN_AND_BOB),
    ],
    ids=["result", "mappings", "rows", "record array", "Arrow structs"],
)
def test_results_and_arrays_of_rows_with_names_are_read_by_them(read: ReadRows, made: Callable[[Any], Any]) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    query = "select 'c1' as source_id, 'Ann' as name union all select 'c2', 'Bob'"
    with closing(engine.connect()) as connection:
        done = read("customers", from_records(made(connection.execute(sqlalchemy.text(query))), "source_id"))
    engine.dispose()

    assert (done.records, done.rows_read) == (ANN_AND_BOB, 2)


@pytest.mark.parametrize(
    "records",
    [
        [("c1", "Ann"), ("c2", "Bob")],
        [["c1", "Ann"], ["c2", "Bob"]],
        (("c1", "Ann"), ["c2", "Bob"]),
        iter([("c1", "Ann"), ("c2", "Bob")]),
    ],
    ids=["tuples", "lists", "both", "iterator"],
)
def test_columns_name_the_values_of_rows_without_names(read: ReadRows, records: Any) -> None:
    done = read("customers", from_records(records, "source_id", columns=NAMES))

    assert done.records == ANN_AND_BOB


def changed_dicts() -> Iterator[Any]:
    row: dict[str, Any] = {"metadata": {"tags": []}}
    for number in range(3):
        row["source_id"] = f"c{number}"
        row["metadata"]["number"] = number
        row["metadata"]["tags"].append(number)
        yield row


def changed_lists() -> Iterator[Any]:
    row: list[Any] = ["", {"tags": []}]
    for number in range(3):
        row[0] = f"c{number}"
        row[1]["number"] = number
        row[1]["tags"].append(number)
        yield row


class Tagged(NamedTuple):
    source_id: str
    metadata: Any


def changed_mappings() -> Iterator[Any]:
    row = OtherMapping()
    for one in changed_dicts():
        row.members = one
        yield row


def changed_parts() -> Iterator[Any]:
    part: list[Any] = []
    for one in changed_dicts():
        part[:] = [one]
        yield part


def changed_members() -> Iterator[Any]:
    """Give named tuples whose member, of a type of its own, is the same one."""
    metadata = OrderedDict[str, Any](tags=[], number=0)
    for number in range(3):
        metadata["tags"].append(number)
        metadata["number"] = number
        yield Tagged(f"c{number}", metadata)


@pytest.mark.parametrize("rows", [changed_dicts, changed_lists, changed_mappings, changed_parts, changed_members])
def test_a_generator_may_change_a_row_and_give_it_again(read: ReadRows, rows: Callable[[], Any]) -> None:
    """As functions do that fill one dict for each line; read late, all rows would be the last one."""
    columns = ["source_id", "metadata"] if rows is changed_lists else None

    assert read("customers", from_records(rows(), "source_id", columns=columns)).records == [
        {"source_id": f"c{number}", "metadata": {"tags": list(range(number + 1)), "number": number}}
        for number in range(3)
    ]


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["source_id", "a", "b"]), st.none() | st.integers() | st.lists(st.integers(), max_size=2)
        ),
        max_size=8,
    ),
    st.integers(1, 3),
)
def test_rows_of_any_shape_are_those_that_were_given(rows: list[dict[str, Any]], at_once: int) -> None:
    """Alike or not, from a list, and from a generator that changes each row once it has given it."""

    def changing() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {}
        for one in rows:
            row.clear()
            row.update(deepcopy(one))
            yield row
            for value in row.values():
                if isinstance(value, list):
                    value.append("late")

    def read_rows(records: Any) -> list[dict[str, Any]]:
        with patch.object(in_memory, "_ROWS_PER_STEP", at_once), patch.object(in_memory, "ROWS_PER_CHUNK", at_once * 2):
            parts = list(from_records(records, "source_id"))
        return [dict(zip(part.columns, row, strict=True)) for part in parts for row in part.rows]

    assert read_rows(rows) == read_rows(changing()) == rows


def test_a_generator_may_change_a_numpy_record(read: ReadRows) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(1, dtype=[("source_id", "U5"), ("orders", "i8")])

    def rows() -> Iterator[Any]:
        for number in range(3):
            array[0] = (f"c{number}", number)
            yield array[0]

    assert [record["source_id"] for record in read("customers", from_records(rows(), "source_id")).records] == [
        "c0",
        "c1",
        "c2",
    ]


@pytest.mark.parametrize("times", [1, 10])
def test_a_row_without_an_end_is_refused_alone(read: ReadRows, times: int) -> None:
    """Ten copies of each of its ten parts, and of theirs, would never end."""
    endless: list[Any] = []
    endless.extend([endless] * times)

    done = read("customers", from_records(iter([{"source_id": "c1", "x": endless}, ANN_AND_BOB[1]]), "source_id"))

    assert (done.records, done.refused) == ([ANN_AND_BOB[1]], 1)


def test_columns_are_mapped_as_those_of_a_query(read: ReadRows) -> None:
    rules = MappingRules({"id": "source_id", "who": "name"})

    done = read("customers", from_records([("c1", "Ann", 7)], "source_id", columns=["id", "who", "rest"]), rules)

    assert done.record == {"source_id": "c1", "name": "Ann"}


def test_a_row_of_another_length_is_refused_and_the_others_go_on(read: ReadRows) -> None:
    rows = [("c1", "Ann"), ("c3",), ["c2", "Bob"], ("c4", "Cid", 1), "c5", None, ()]

    done = read("customers", from_records(rows, "source_id", columns=NAMES))

    assert (done.records, done.rows_read, done.refused) == (ANN_AND_BOB, 7, 5)
    assert done.reasons == [
        ("invalid_line", "it has 1 value for 2 columns"),
        ("invalid_line", "it has 3 values for 2 columns"),
        ("invalid_line", "it must be a sequence of values, not str"),
        ("invalid_line", "it must be a sequence of values, not NoneType"),
        ("invalid_line", "it has 0 values for 2 columns"),
    ]
    assert b"c4" not in b"".join(done.failures), "which value is whose is not known: nothing of it may be sent later"


def test_names_that_fit_no_row_are_a_mistake_in_columns(read: ReadRows) -> None:
    rows = [("c1", "Ann", 7), ["c2", "Bob", 8]]

    with pytest.raises(VoucherifyConfigurationError, match="columns= names 2 columns, and the rows have 3 values each"):
        read("customers", from_records(rows, "source_id", columns=NAMES))


def test_a_key_that_is_the_index_of_a_dataframe_is_told(read: ReadRows) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{"source_id": "c1", "name": "Ann"}]).set_index("source_id")

    with pytest.raises(VoucherifyConfigurationError, match=r"the index 'source_id' is not read: .*\.reset_index\(\)"):
        read("customers", from_records(frame, "source_id"))

    assert read("customers", from_records(frame.reset_index(), "source_id")).records == ANN_AND_BOB[:1]


@pytest.mark.parametrize(
    "records",
    [
        [["c1", "Ann"]],
        [("c1", "Ann", 3)],
        [("c1",)],
        [["c1"], ["c2"]],
        [({"source_id": "c1"}, {"source_id": "c2"})],
        [[{"source_id": "c1"}, "c2"]],
        [{"source_id": "c1"}, ("c2", "Bob")],
    ],
    ids=repr,
)
@pytest.mark.parametrize("takes_ids", [False, True], ids=["rows", "ids"])
def test_rows_without_names_are_refused_before_anything_is_sent(read: ReadRows, records: Any, takes_ids: bool) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"row \d is a (list|tuple) .*columns=\[\.\.\.\].*sql=, or"):
        read("customers", from_records(records, "source_id", takes_ids=takes_ids))


@pytest.mark.parametrize("records", [["c1"], [7], [{"source_id": "c1"}, "c2"]], ids=repr)
def test_bare_ids_are_rows_only_where_ids_are_all_that_is_wanted(read: ReadRows, records: Any) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="is a bare id, which is enough only if metadata= is given"):
        read("customers", from_records(records, "source_id"))

    done = read(metadata_destination("customers", {"a": 1}), from_records(records, "source_id", takes_ids=True))

    assert len(done.records) == len(records)


def test_what_the_instances_of_a_mapped_task_return_is_joined(read: ReadRows) -> None:
    def ids(records: Any, **kwargs: Any) -> list[str]:
        rows = from_records(records, "source_id", of_mapped_task=True, **kwargs)
        return list(read(metadata_destination("customers", {"a": 1}), rows).records)

    assert ids([["c1", 2], [], ("c3",)], takes_ids=True) == ["c1", "2", "c3"]
    assert ids(["c1", "c2"], takes_ids=True) == ["c1", "c2"]
    assert ids([ANN_AND_BOB, tuple(ANN_AND_BOB[:1])]) == ["c2", "c1"]
    assert ids([[("c1", "Ann")], [["c2", "Bob"]], []], columns=NAMES) == ["c1", "c2"]
    assert ids([("c1", "Ann"), ["c2", "Bob"]], columns=NAMES) == ["c1", "c2"]
    with pytest.raises(VoucherifyConfigurationError, match="without column names"):
        ids([[("c1", "Ann")]])


@pytest.mark.parametrize(
    "batches",
    [
        [[("c1", "Ann")], [("c2", "Bob"), ("c3", "Cy")]],
        [[("c1", "Ann"), ("c2", "Bob")]],
        [(["c1", "Ann"], ["c2", "Bob"])],
    ],
    ids=["of other lengths than a row", "of the length of a row", "a tuple of lists"],
)
def test_batches_of_rows_without_names_are_refused_since_nobody_could_count_them(
    read: ReadRows, batches: list[Any]
) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="row 1 is a list of rows; give them one by one"):
        read("customers", from_records(iter(batches), "source_id", columns=NAMES))


@pytest.mark.parametrize("columns", ["source_id", [], {"source_id": 1}, [1], ["a", "a"]], ids=repr)
def test_columns_that_are_no_list_of_names_are_a_mistake(columns: Any) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="columns"):
        from_records([("c1",)], "source_id", columns=columns)


@pytest.mark.parametrize(
    "record",
    [
        {"source_id": "c1"},
        OtherMapping(source_id="c1"),
        namedtuple("Id", ["source_id"])("c1"),
        namedtuple("Name", ["name"])("Ann"),
    ],
    ids=["dict", "mapping", "named tuple", "other name"],
)
def test_columns_for_rows_that_have_names_are_a_mistake(read: ReadRows, record: Any) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="columns= names the values of rows that have no column"):
        read("customers", from_records([record], "source_id", columns=["source_id"]))


def test_a_column_whose_name_is_no_text_is_refused(read: ReadRows) -> None:
    done = read("customers", [{"source_id": "c1", 1: "a", "1": "b"}, {"source_id": "c2"}])

    assert done.records == [{"source_id": "c2"}]
    assert done.reasons == [("invalid_line", "it has a column whose name is 1, not text")]


def test_a_data_frame_is_read_by_its_columns(read: ReadRows) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "source_id": [f"c{number}" for number in range(2_500)],
            "name": ["Ann", None] * 1_250,
            "orders": pandas.array([3, None] * 1_250, dtype="Int64"),
            "score": [1.5, float("nan")] * 1_250,
            "seen": pandas.to_datetime(["2024-01-02", None] * 1_250),
            "mixed": [{"a": 1}, [Decimal("1.5")]] * 1_250,
            "tier": pandas.Categorical(["gold", None] * 1_250),
        },
        index=pandas.Index(range(5, 2_505), name="position"),
    )

    done = read("customers", frame)

    assert done.rows_read == 2_500
    seen = "2024-01-02T00:00:00.000Z"
    assert done.records[-2:] == [
        {
            "source_id": "c2498",
            "name": "Ann",
            "metadata": {"orders": 3, "score": 1.5, "seen": seen, "mixed": {"a": 1}, "tier": "gold"},
        },
        {"source_id": "c2499", "metadata": {"mixed": [1.5]}},
    ]


def test_data_frames_may_come_in_pieces(read: ReadRows) -> None:
    pandas = pytest.importorskip("pandas")

    def pieces() -> Iterator[Any]:
        yield pandas.DataFrame(ANN_AND_BOB[:1])
        yield pandas.DataFrame({"source_id": []})
        yield pandas.DataFrame(ANN_AND_BOB[1:])
        yield {"source_id": "c3"}

    assert read("customers", from_records(pieces(), "source_id")).records == [*ANN_AND_BOB, {"source_id": "c3"}]


def arrow_table() -> Any:
    return pytest.importorskip("pyarrow").table(
        {"source_id": ["c1", "c2"], "name": ["Ann", None], "born": [dt.date(1980, 2, 29), None]}
    )


@pytest.mark.parametrize(
    "table",
    [
        arrow_table,
        lambda: arrow_table().to_reader(),
        lambda: arrow_table().to_batches(),
        lambda: iter(arrow_table().to_reader(max_chunksize=1)),
        lambda: pytest.importorskip("polars").from_arrow(arrow_table()),
        lambda: pytest.importorskip("duckdb").sql(
            "select * from (values ('c1', 'Ann', date '1980-02-29'), ('c2', null, null)) as t(source_id, name, born)"
        ),
    ],
    ids=["table", "reader", "batches", "iterator", "polars", "duckdb"],
)
def test_whatever_arrow_can_read_is_read_by_its_columns(read: ReadRows, table: Callable[[], Any]) -> None:
    done = read("customers", from_records(table(), "source_id"))

    assert done.records == [{"source_id": "c1", "name": "Ann", "metadata": {"born": "1980-02-29"}}, {"source_id": "c2"}]


def test_a_table_must_have_different_names_of_text(read: ReadRows) -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")

    with pytest.raises(VoucherifyConfigurationError, match="the DataFrame has a column whose name is 0, not text"):
        read("customers", pandas.DataFrame([("c1", "Ann")]))
    with pytest.raises(VoucherifyConfigurationError, match="the DataFrame has more than one column named 'a'"):
        read("customers", pandas.DataFrame([("c1", 1, 2)], columns=["source_id", "a", "a"]))
    with pytest.raises(VoucherifyConfigurationError, match="the table has more than one column named 'a'"):
        read("customers", pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"]))
    with pytest.raises(VoucherifyConfigurationError, match="that have no column names; a DataFrame has its own"):
        from_records(pandas.DataFrame(ANN_AND_BOB), "source_id", columns=NAMES)
    with pytest.raises(VoucherifyConfigurationError, match=r"no column gives source_id.* the rows have 'name'"):
        read("customers", pandas.DataFrame(ANN_AND_BOB).set_index("source_id"))


@pytest.mark.parametrize(
    "records",
    [
        lambda: pytest.importorskip("pandas").Series(["c1"]),
        lambda: pytest.importorskip("pyarrow").chunked_array([["c1"]]),
        lambda: pytest.importorskip("polars").Series(["c1"]),
        lambda: pytest.importorskip("polars").LazyFrame({"source_id": ["c1"]}),
    ],
    ids=["pandas", "pyarrow", "polars", "lazy"],
)
@pytest.mark.parametrize("takes_ids", [False, True], ids=["rows", "ids"])
def test_a_single_column_is_no_table(read: ReadRows, records: Callable[[], Any], takes_ids: bool) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="the rows must come as"):
        read("customers", from_records(records(), "source_id", takes_ids=takes_ids))


class LooksLikeATable:
    """Gives its columns' names, as data frames of other libraries do."""

    columns = ("source_id", "name")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


def test_the_names_of_columns_never_pass_for_ids(read: ReadRows) -> None:
    for records in (LooksLikeATable(), [LooksLikeATable()]):
        with pytest.raises(VoucherifyConfigurationError, match="not as LooksLikeATable"):
            read("customers", from_records(records, "source_id", takes_ids=True))
