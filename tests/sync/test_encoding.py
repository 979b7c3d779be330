"""Many rows at once are encoded as each row alone is: the same bytes, the same refusals, whatever the values."""

from __future__ import annotations

import datetime
import enum
import re
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_voucherify.sync.batches.destination import Destination, metadata_destination, update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.state.ledger import Ledger

ReadRows = Callable[..., Any]


class Text(str):
    """Text of a driver's own type."""


class Level(enum.IntEnum):
    """A whole number of a driver's own type."""

    LOW = 1


TEXTS = st.text('ab é"\\\n,\x00\u2028', max_size=4)
NUMBERS = (
    st.integers()
    | st.integers(2**63 - 2, 2**64 + 1)
    | st.floats()
    | st.decimals()
    | st.sampled_from([Decimal("1E+400"), Decimal("sNaN"), Decimal("2.50"), 10**400, True, False, Level.LOW])
)
TIMES = st.datetimes() | st.dates() | st.times() | st.datetimes(timezones=st.just(datetime.UTC))
ODD = st.sampled_from(
    [
        "\ud800",
        Text("text"),
        b"bytes",
        b"\xff",
        uuid.UUID(int=5),
        object(),
        numpy.int64(7),
        numpy.float64("nan"),
        numpy.str_("np"),
        numpy.datetime64("NaT", "ns"),
        "2024-02-29",
        '["a", "b"]',
        '{"city": "X"}',
        ("a", "b"),
        {"a", "b"},
        [],
        {},
    ]
)
SCALARS = st.none() | TEXTS | NUMBERS | TIMES | ODD
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.dictionaries(TEXTS | st.sampled_from(["city", "line_1", Text("state"), 5]), SCALARS, max_size=3)
    | st.dictionaries(TEXTS, st.dictionaries(TEXTS, SCALARS, max_size=2) | st.none(), max_size=2)
)
PLAIN = st.none() | st.text("abc", min_size=1, max_size=3) | st.integers(-5, 5) | st.booleans()
"""Values that most columns have, lest every chunk holds something odd."""

COLUMNS = {
    "customers": (
        "source_id",
        "name",
        "birthdate",
        "address_city",
        "address_line_1",
        "address",
        "tier",
        "a b",
        "score",
    ),
    "products": ("source_id", "name", "price", "attributes", "metadata", "image_url"),
    "vouchers": ("code", "metadata", "metadata.a", "metadata.b"),
}
SOME = ("address_city", "address", "tier", "a b", "metadata", "metadata.b")
"""Columns whose missing values can be sent."""


def read_in(
    read: ReadRows, destination: Destination, rules: MappingRules, columns: Sequence[str], chunks: Sequence[Any]
) -> tuple[Any, ...]:
    done = read(destination, iter([Chunk(tuple(columns), rows) for rows in chunks]), rules)
    failures = [re.sub(rb'"at":[0-9.]+', b"", line) for line in done.failures]
    return done.bodies, done.refused, done.superseded, done.reasons, failures


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[str], list[tuple[Any, ...]]]:
    resource = draw(st.sampled_from(sorted(COLUMNS)))
    key, *others = COLUMNS[resource]
    columns = [key, *draw(st.lists(st.sampled_from(others), min_size=1, unique=True))]
    for whole in {"address", "metadata"} & set(columns):
        columns = [name for name in columns if name == whole or not name.startswith((f"{whole}_", f"{whole}."))]
    columns = draw(st.permutations(columns))
    kinds = {name: draw(st.sampled_from([PLAIN, PLAIN, VALUES])) for name in columns}
    ids = draw(st.sampled_from([st.text("ab ", min_size=1, max_size=3), st.integers(0, 99), VALUES]))
    rows = draw(
        st.lists(st.tuples(*(ids if name == key else kinds[name] for name in columns)), min_size=8, max_size=40)
    )
    return resource, columns, rows


def fields_of_rows(
    destination: Destination, rules: MappingRules, columns: Sequence[str], chunks: Sequence[Any]
) -> list[Any]:
    """Return which fields the ledger says that each record has, with a value or null."""
    with Ledger("run", "settings") as ledger, Plan(destination, rules, ledger=ledger) as plan:
        plan.read(iter([Chunk(tuple(columns), rows) for rows in chunks]))
        found = ledger._db.execute("select id, name from rows left join contents on number = content order by item")
        return found.fetchall()


@settings(max_examples=500)
@given(tables(), st.sampled_from(["omit", "send", "some"]), st.sampled_from(["records", "metadata", "ids"]))
def test_rows_together_give_what_each_gives_alone(
    read: ReadRows, table: tuple[str, list[str], list[tuple[Any, ...]]], null_policy: Any, form: str
) -> None:
    resource, columns, rows = table
    if null_policy == "some":
        null_policy = {name: "send" for name in columns if name in SOME}
    rules = MappingRules(null_policy=null_policy)
    destination = {
        "records": update_destination(resource),
        "metadata": metadata_destination(resource, None),
        "ids": metadata_destination(resource, {"a": 1}),
    }[form]

    alone = read_in(read, destination, rules, columns, [[row] for row in rows])

    assert read_in(read, destination, rules, columns, [rows]) == alone
    assert read_in(read, destination, rules, columns, [rows[:8], [*rows[8:]]]) == alone
    fields = fields_of_rows(destination, rules, columns, [[row] for row in rows])
    assert fields_of_rows(destination, rules, columns, [rows]) == fields


@pytest.mark.parametrize("resource", ["customers", "vouchers"])
@pytest.mark.parametrize("missing", [None, numpy.datetime64("NaT", "ns")], ids=["None", "NaT"])
@pytest.mark.parametrize("columns", [("metadata",), ("a", "b")], ids=["object", "members"])
def test_objects_of_nothing_but_missing_values_are_left_out(
    read: ReadRows, resource: str, missing: Any, columns: tuple[str, ...]
) -> None:
    destination = update_destination(resource)
    rows = [(f"c{number:02}", *[missing for _ in columns]) for number in range(20)]

    together = read_in(read, destination, MappingRules(), (destination.endpoint.key, *columns), [rows])

    assert b"metadata" not in b"".join(together[0])
    assert together[1] == (20 if resource == "vouchers" else 0)


@pytest.mark.parametrize("empty", [{}, "{}"])
def test_vouchers_with_empty_metadata_are_refused(read: ReadRows, empty: Any) -> None:
    done = read("vouchers", iter([Chunk(("code", "metadata"), [(f"v{number}", empty) for number in range(20)])]))

    assert (done.refused, done.reasons[0][0]) == (20, "nothing_to_send")


def test_which_members_an_object_has_is_told_of_dicts_of_a_class_of_their_own_too() -> None:
    """A driver that gives ``OrderedDict`` for a STRUCT: the state tells of each record what Voucherify has of it."""
    rows = [(f"c{number}", OrderedDict({"tier": "gold"} if number % 2 else {"city": "X"})) for number in range(20)]

    fields = fields_of_rows(update_destination("customers"), MappingRules(), ["source_id", "metadata"], [rows])

    assert [said for _, said in fields[:2]] == ['[["metadata.city"], []]', '[["metadata.tier"], []]']


@pytest.mark.parametrize("number", [3, 20])
def test_a_whole_address_is_text_and_of_known_fields_however_many_rows_there_are(read: ReadRows, number: int) -> None:
    """A STRUCT whose postal code is a number, and one of a field that the API does not have."""
    rows: list[tuple[Any, ...]] = [(f"c{place}", {"city": "X", "postal_code": 12345}) for place in range(number)]
    rows[1] = ("c1", {"city": "X", "zip": "12345"})

    done = read("customers", iter([Chunk(("source_id", "address"), rows)]))

    assert done.records[0]["address"] == {"city": "X", "postal_code": "12345"}
    assert [key for key, _ in done.reasons] == ["invalid_value"]


@pytest.mark.parametrize("number", [3, 20])
def test_an_id_of_an_enumeration_is_its_number_however_many_rows_there_are(read: ReadRows, number: int) -> None:
    places = list(enum.Enum("Places", [f"P{place}" for place in range(number)], type=int, start=100))

    done = read("customers", iter([Chunk(("source_id", "tier"), [(place, "gold") for place in places])]))

    assert [record["source_id"] for record in done.records] == [str(100 + place) for place in range(number)]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "é", "class", "a b", "0", "key", "self"])
def test_any_column_name_can_be_a_member_of_metadata(read: ReadRows, name: str) -> None:
    rows = [(f"c{number}", number) for number in range(10)]

    together = read_in(read, update_destination("customers"), MappingRules(), ["source_id", name], [rows])

    alone = [[row] for row in rows]
    assert together == read_in(read, update_destination("customers"), MappingRules(), ["source_id", name], alone)


def test_one_bad_row_among_thousands_is_the_only_one_refused(read: ReadRows) -> None:
    rows: list[tuple[Any, ...]] = [(f"c{number:04}", number, 1.5) for number in range(3_000)]
    rows[1_234] = ("c1234", 5, float("nan"))
    rows[2_500] = (" ", 5, 1.5)

    done = read(
        "customers",
        iter(Chunk(("source_id", "points", "score"), rows[start : start + 1_000]) for start in range(0, 3_000, 1_000)),
    )

    assert (done.refused, len(done.records)) == (2, 2_998)
    assert done.reasons == [
        ("invalid_value", "metadata.score (column score) must be a finite number (actual value is nan)"),
        ("missing_key", "source_id is empty"),
    ]


def test_a_record_that_is_too_large_does_not_take_its_neighbours_with_it(read: ReadRows) -> None:
    rows = [(f"c{number}", "x" * (11_000_000 if number == 7 else 10)) for number in range(20)]

    done = read("customers", iter([Chunk(("source_id", "note"), rows)]))

    assert ([key for key, _ in done.reasons], len(done.records)) == (["record_too_large"], 19)
