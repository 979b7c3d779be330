"""Warehouse values: each becomes documented JSON, exactly, or its row is refused with a reason."""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parameter_ids import without_address

from airflow_provider_voucherify.sync.rows.mapping import MappingRules

ReadRows = Callable[..., Any]

WARSAW_SUMMER = dt.timezone(dt.timedelta(hours=2))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
ANYTHING = st.one_of(
    JSON,
    st.text(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.binary(),
    st.uuids(),
    st.dates(),
    st.times(timezones=st.timezones()),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.timedeltas(),
    st.fractions(),
    st.complex_numbers(),
    st.sampled_from(["{", '{"a":NaN}', "[1,", "[" * 5_000, '["x"]', '{"city": "Łódź"}', Decimal("1E+5000"), 10**5_000]),
    st.dictionaries(st.text() | st.integers() | st.none(), st.text() | st.binary(), max_size=2),
    st.tuples(st.text(), st.decimals()),
    st.frozensets(st.integers()),
    st.builds(object),
)


def shown(value: object) -> str:
    return "a huge integer" if type(value) is int and value.bit_length() > 100 else without_address(value)[:40]


class Colour(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 7


class Markup(str):
    """Some drivers and template engines give subclasses of ``str``."""


@given(st.dictionaries(TEXTS, JSON, max_size=4))
def test_json_arrives_as_it_is(read: ReadRows, metadata: dict[str, Any]) -> None:
    done = read("customers", [{"source_id": "c", "metadata": metadata}], MappingRules(null_policy="send"))

    assert done.record["metadata"] == metadata


@pytest.mark.parametrize("resource", ["customers", "products", "vouchers"])
@given(
    row=st.fixed_dictionaries(
        {"source_id": ANYTHING, "code": ANYTHING},
        optional=dict.fromkeys(
            ("name", "price", "birthdate", "attributes", "address", "address_city", "metadata", "own"), ANYTHING
        ),
    )
)
def test_a_row_of_anything_is_sent_or_refused(read: ReadRows, resource: str, row: dict[str, Any]) -> None:
    """Whatever it holds, it neither ends the run nor leads to a body that the vendor's description forbids."""
    done = read(resource, [row])

    assert len(done.records) + done.refused == 1
    assert all(key and message for key, message in done.reasons)
    assert [json.loads(line)["_failure"]["outcome"] for line in done.failures] == ["refused"] * done.refused


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**25), max_value=10**25, places=10))
def test_a_decimal_stays_exact(read: ReadRows, number: Decimal) -> None:
    (body,) = read("customers", [{"source_id": "c", "ltv": number}]).bodies

    assert json.loads(body, parse_float=Decimal, parse_int=Decimal)[0]["metadata"]["ltv"] == number


@pytest.mark.parametrize(
    "number", ["1234567890123456.78", "1234567890123.123456789", "9007199254740993", "1E+3", "0.10"]
)
def test_a_number_in_json_text_stays_exact(read: ReadRows, number: str) -> None:
    (body,) = read("customers", [{"source_id": "c", "metadata": f'{{"a": {{"balance": {number}}}}}'}]).bodies

    assert body.decode() == '[{"source_id":"c","metadata":{"a":{"balance":' + number + "}}}]"


@given(st.datetimes(timezones=st.none() | st.timezones()))
def test_a_timestamp_becomes_utc_to_the_millisecond(read: ReadRows, moment: dt.datetime) -> None:
    done = read("customers", [{"source_id": "c", "seen": moment}])
    if done.refused:
        assert moment.year in (1, 9999), "only the ends of the calendar have no UTC"
        return

    text = done.record["metadata"]["seen"]
    utc = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    assert text.endswith("Z")
    assert dt.datetime.fromisoformat(text) == utc.replace(microsecond=utc.microsecond // 1000 * 1000)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (Decimal("1.10"), "1.10"),
        (Decimal("0E-8"), "0E-8"),
        (True, "true"),
        (2**64 - 1, "18446744073709551615"),
        (-(2**63), "-9223372036854775808"),
        (dt.date(2024, 2, 29), '"2024-02-29"'),
        (dt.time(9, 5), '"09:05:00"'),
        (dt.datetime(2024, 2, 29, 12, 30), '"2024-02-29T12:30:00.000Z"'),
        (dt.datetime(2024, 2, 29, 1, 30, tzinfo=WARSAW_SUMMER), '"2024-02-28T23:30:00.000Z"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ((1, "a", None), '[1,"a",null]'),
        ({"a": {"b": dt.date(2024, 1, 1)}}, '{"a":{"b":"2024-01-01"}}'),
        ("\x00\u2028😀", '"\\u0000\u2028😀"'),
        (Colour.RED, '"red"'),
        (Level.HIGH, "7"),
        (Markup("<b>"), '"<b>"'),
        ("", '""'),
    ],
    ids=shown,
)
def test_metadata_takes_the_types_of_warehouses(read: ReadRows, value: Any, sent: str) -> None:
    (body,) = read("customers", [{"source_id": "c", "m": value}]).bodies

    assert body.decode() == '[{"source_id":"c","metadata":{"m":' + sent + "}}]"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "finite number .actual value is nan"),
        (float("-inf"), "finite number .actual value is -inf"),
        (Decimal("NaN"), "finite number"),
        (Decimal("Infinity"), "finite number"),
        ([1, {"a": float("nan")}], "finite number"),
        ("a\ud800", "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        (b"\x01", "has bytes, which have no JSON form; cast BIT to integer, and BINARY to hex or to text"),
        (b"text", "has bytes"),
        (bytearray(b"x"), "has bytes"),
        (memoryview(b"x"), "has bytes"),
        ({"a": [b"x"]}, "has bytes"),
        (2**64, "more than 64 bits"),
        (-(2**63) - 1, "more than 64 bits"),
        (dt.timedelta(1), "no JSON form .a timedelta"),
        (Fraction(1, 3), "no JSON form .a Fraction"),
        ({1, 2}, "no JSON form .a set"),
        ({1: "a"}, "member whose name is an integer"),
        (json.loads("[" * 40 + "]" * 40), "nested more than 32 deep"),
        (dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=5))), "UTC"),
    ],
    ids=shown,
)
def test_what_has_no_json_form_is_refused_with_the_column(read: ReadRows, value: Any, why: str) -> None:
    key, message = read("customers", [{"source_id": "c", "m": value}]).reason

    assert key == "invalid_value"
    assert message.startswith("metadata.m (column m) ")
    assert re.search(why, message)


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("m", {"a": [1, {"b": float("nan")}]}, "must be a finite number (actual value is nan) (member 'a[1].b')"),
        ("m", [[1], (b"x",)], "hex or to text (member '[1][0]')"),
        ("m", {"a": {"b": {1: "x"}}}, "has a member whose name is an integer, not a string (member 'a.b')"),
        ("m", {"ok": 1, "\udfff": 1}, "which UTF-8 cannot carry"),
        ("m", float("inf"), "must be a finite number (actual value is inf)"),
        ("m", {"a" * 99: 2**64}, f"is an integer of more than 64 bits (member '{'a' * 59}…')"),
        ("m", CYCLE, f"must not be nested more than 32 deep (member '{'[0]' * 19}[0…')"),
        ("metadata", '{"a": {"b": [-Infinity]}}', "(actual value is -inf) (member 'a.b[0]')"),
        ("metadata", [b"x"], "metadata must be an object, not a list"),
        ("metadata", '{"a": 1, "a": 2}', "is JSON with two members 'a'"),
        ("address", {"city": "Łódź", "town": b"x"}, "hex or to text (member 'town')"),
        ("name", {"a": b"x"}, "name must be a string, not an object"),
    ],
    ids=shown,
)
def test_the_member_that_is_refused_is_named(read: ReadRows, field: str, value: Any, why: str) -> None:
    _, message = read("customers", [{"source_id": "c", field: value}]).reason

    assert message.endswith(why)


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        ("name", 5, "5"),
        ("name", Decimal("5.00"), "5"),
        ("name", Decimal("1E+30"), "1" + "0" * 30),
        ("name", 10**38, "1" + "0" * 38),
        ("name", uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        ("name", dt.date(2024, 1, 2), "2024-01-02"),
        ("name", Colour.RED, "red"),
        ("birthdate", dt.date(1980, 2, 29), "1980-02-29"),
        ("birthdate", dt.datetime(1980, 2, 29, 23, 59), "1980-02-29"),
        ("birthdate", dt.datetime(1980, 2, 29, 0, 30, tzinfo=WARSAW_SUMMER), "1980-02-29"),
        ("birthdate", "1980-02-29", "1980-02-29"),
        ("birthdate", " 1980-02-29T10:00:00Z ", "1980-02-29"),
        ("address", {"city": "Łódź", "postal_code": 90001, "state": None}, {"city": "Łódź", "postal_code": "90001"}),
        ("address", '{"city": "Łódź"}', {"city": "Łódź"}),
        ("metadata", '{"a": 1.50}', {"a": 1.5}),
    ],
    ids=shown,
)
def test_customer_fields_get_their_documented_type(read: ReadRows, field: str, value: Any, sent: Any) -> None:
    assert read("customers", [{"source_id": "c", field: value}]).record == {"source_id": "c", field: sent}


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        ("price", 1999, 1999),
        ("price", 1999.0, 1999),
        ("price", Decimal("1999.00"), 1999),
        ("price", " 1999 ", 1999),
        ("price", "-5", -5),
        ("attributes", ["a", 1], ["a", "1"]),
        ("attributes", ("a",), ["a"]),
        ("attributes", ' ["a", "b"]', ["a", "b"]),
    ],
    ids=shown,
)
def test_product_fields_get_their_documented_type(read: ReadRows, field: str, value: Any, sent: Any) -> None:
    assert read("products", [{"source_id": "p", field: value}]).record == {"source_id": "p", field: sent}


@pytest.mark.parametrize(
    ("resource", "field", "value", "why"),
    [
        ("customers", "name", True, "name must be a string, not a boolean"),
        ("customers", "name", 1.5, "name must be a string, not a number"),
        ("customers", "name", Decimal("1.5"), "name must be a string, not a number"),
        ("customers", "name", Decimal("1E+5000"), "name is a number of more than 100 digits"),
        ("customers", "name", 10**5000, "name is a number of more than 100 digits"),
        ("customers", "source_id", b"abcdefghijklmnop", "source_id has bytes, which"),
        ("customers", "name", b"Ann", "name has bytes"),
        ("customers", "metadata", b'{"a": 1}', "metadata has bytes"),
        ("customers", "metadata", '{"a": NaN}', "metadata must be a finite number"),
        ("customers", "metadata", '{"a": -Infinity}', "metadata must be a finite number"),
        ("customers", "metadata", '{"a": 1e400}', "metadata must be a finite number"),
        ("customers", "metadata", '{"a": 1e9999999999999999999}', "metadata looks like JSON but cannot be read"),
        ("customers", "metadata", '{"a": 18446744073709551616}', "metadata is an integer of more than 64 bits"),
        ("customers", "metadata", '{"a": {"b": 1, "c": 2, "b": 3}}', "metadata is JSON with two members 'b'"),
        ("products", "attributes", [b"a"], "attributes has bytes"),
        ("customers", "name", ["a"], "name must be a string, not a list"),
        ("customers", "birthdate", "29.02.1980", "must be a date as YYYY-MM-DD .actual value is '29.02.1980'"),
        ("customers", "birthdate", "1981-02-29", "must be a date"),
        ("customers", "birthdate", 19800229, "must be a date"),
        ("customers", "birthdate", "x" * 100, "must be a date as YYYY-MM-DD .actual value is 'x{59}…'"),
        ("customers", "address", "Łódź", "address must be an object, not a string"),
        ("customers", "address", {"town": "Łódź"}, "address has an unknown field 'town'; it may have city, state"),
        ("customers", "address", '{"city"', "address looks like JSON but cannot be read"),
        ("customers", "metadata", "vip", "metadata must be an object, not a string"),
        ("customers", "metadata", ["vip"], "metadata must be an object, not a list"),
        ("vouchers", "metadata", 7, "metadata must be an object, not an integer"),
        ("products", "price", 19.99, "price must be an integer .actual value is 19.99"),
        ("products", "price", Decimal("0.5"), "price must be an integer"),
        ("products", "price", "19.99", "price must be an integer, not a string"),
        ("products", "price", float("nan"), "price must be an integer .actual value is nan"),
        ("products", "price", True, "price must be an integer, not a boolean"),
        ("products", "price", Decimal("1E+999999"), "price must be an integer"),
        ("products", "price", 1e300, "price is an integer of more than 64 bits"),
        ("products", "attributes", "colour", "attributes must be a list of strings, not a string"),
        ("products", "attributes", ["a", None], "attributes must be a string, not null"),
    ],
    ids=shown,
)
def test_a_value_of_another_type_is_refused_never_bent(
    read: ReadRows, resource: str, field: str, value: Any, why: str
) -> None:
    key, message = read(resource, [{"source_id": "x", "code": "x", field: value}]).reason

    assert key == ("missing_key" if field == "source_id" else "invalid_value")
    assert re.search(why, message)


def test_a_string_of_ten_megabytes_is_refused_with_its_size(read: ReadRows) -> None:
    done = read("customers", [{"source_id": "a", "bio": "x" * 10_485_760}, {"source_id": "b", "bio": "x"}])

    assert [record["source_id"] for record in done.records] == ["b"]
    assert done.reasons == [("record_too_large", "alone takes 10,485,801 bytes, and a request may have 10,485,760")]
