"""Exports that are odd, and can be read all the same."""

from __future__ import annotations

import csv
import io
import json
from io import BytesIO
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.errors import VoucherifyExportError
from airflow_provider_voucherify.sync.comparison import found_records
from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords
from airflow_provider_voucherify.sync.comparison.values import differing_members, is_same

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


@pytest.mark.parametrize("lines", ["a,y\na,x\n", "a,x\na,y\n", "a,y\na,x\na,z\n"])
def test_of_a_record_that_is_expected_and_there_twice_both_lines_count(lines: str) -> None:
    """What is just as it is expected is not kept, so that nobody knows which line was the last."""
    with FoundRecords("source_id", [("name",)], [ITEM]) as found:
        found.expect([ITEM])
        found.read(BytesIO(f"source_id,name\n{lines}b,x\n".encode()))

        for _ in range(2):
            assert found.compare(["a", "c"], [ITEM, b'{"source_id":"c"}']) == ["different", "absent"]
            assert found.number == 2


NAMES = st.sampled_from(["", "x", "y", 'say "x"', "1"])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(st.integers(), FLOATS, st.sampled_from(["x", "", " 1", "01"]))
RECORDS = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(NAMES, NUMBERS), max_size=8)


@given(RECORDS, RECORDS, st.sampled_from([0, 2, 1_000]))
def test_what_is_remembered_makes_no_difference(sent: dict, others: dict, most: int) -> None:  # type: ignore[type-arg]
    """However many records are compared in memory, and whatever is exported: the way over the disk says the same."""
    exported = {**{one: sent[one] for one in sent if one < "d"}, **others}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["source_id", "name", "metadata.n"])
    writer.writerows([one, name, number] for one, (name, number) in exported.items())
    items = [
        json.dumps({"source_id": one, "name": name, "metadata": {"n": number}}, separators=(",", ":")).encode()
        for one, (name, number) in sent.items()
    ]
    said = []
    for remembered in (0, most):
        with (
            patch.object(found_records, "_MAX_REMEMBERED", remembered),
            FoundRecords("source_id", [("name",), ("metadata", "n")], items[:3]) as found,
        ):
            found.expect(items)
            found.read(BytesIO(text.getvalue().encode()))
            for one in sent:
                found.note_present([one])
            said.append((found.compare(list(sent), items), found.number, list(found.others())))

    assert said[0] == said[1]
    comparisons, number, not_in_source = said[0]
    assert number == len(exported)
    assert set(not_in_source) == exported.keys() - sent.keys()
    for one, comparison in zip(sent, comparisons, strict=True):
        if one not in exported:
            assert comparison == "absent"
        elif exported[one] == sent[one] and type(exported[one][1]) is type(sent[one][1]) is not str:
            assert comparison == "same"


def found_in(text: str, *paths: tuple[str, ...]) -> FoundRecords:
    found = FoundRecords("source_id", paths)
    found.read(BytesIO(text.encode()))
    return found


@pytest.mark.parametrize(
    ("sent", "cell"),
    [(b"5.0", "5.0000000000000000001"), (b"9007199254740992.0", "9007199254740993.0"), (b"0.0", "1e-400")],
    ids=["a fraction", "a large number", "a small number"],
)
def test_a_number_of_more_digits_than_a_double_has_is_another_one(sent: bytes, cell: str) -> None:
    """Whole numbers are compared digit by digit, also where both make the same double and all cells are numbers."""
    item = b'{"source_id":"a","metadata":{"n":' + sent + b"}}"
    with FoundRecords("source_id", [("metadata", "n")], [item]) as found:
        found.expect([item])
        found.read(BytesIO(f"source_id,metadata.n\na,{cell}\nb,1.5\n".encode()))

        assert found.compare(["a"], [item]) == ["different"]


@pytest.mark.parametrize("header", ["source_id,name,metadata.a", "source_id,name,metadata.a,b,metadata.b"])
def test_a_null_is_not_the_same_where_the_export_does_not_tell(header: str) -> None:
    line = ",".join(["c1", "Ann", "1", "", ""][: header.count(",") + 1])
    with found_in(f"{header}\n{line}\n", ("name",), ("metadata", "a"), ("metadata", "b")) as found:
        assert found.untold == ["metadata.b"]
        item = b'{"source_id":"c1","name":"Ann","metadata":{"a":"1","b":null}}'
        assert found.compare(["c1"], [item]) == ["different"]


MEMBERS: dict[str, Any] = {
    "n": 12.5,
    "yes": True,
    "s": 'a, "b"',
    "none": None,
    "l": ["x", 1],
    "o": {"k": "v"},
    "big": 12345678901234567890,
}


@pytest.mark.parametrize("whole", [True, False])
def test_metadata_in_one_column_is_compared_member_by_member(whole: bool) -> None:
    """As an export may have it that was asked for all metadata."""
    members = [("metadata",)] if whole else [("metadata", name) for name in MEMBERS]
    with FoundRecords("source_id", [("name",), *members]) as found:
        assert found.ask_for_all_metadata() is not whole
        text = io.StringIO()
        rows = [("c1", "Ann", json.dumps(MEMBERS)), ("c2", "Bo", "{}"), ("c3", "Cy", ""), ("c4", "Di", "odd")]
        csv.writer(text).writerows([("source_id", "name", "Metadata"), *rows])
        found.read(BytesIO(text.getvalue().encode()))

        def compared(record_id: str, name: str, **metadata: Any) -> Any:
            item = json.dumps({"source_id": record_id, "name": name, "metadata": metadata}).encode()
            (comparison,) = found.compare([record_id], [item])
            return comparison if comparison == "same" else [one.field for one in found.differences(record_id, item)]

        assert found.untold == []
        assert compared("c1", "Ann", **MEMBERS) == "same"
        for name, value in {"n": 12.51, "yes": False, "s": "a", "none": 1, "l": ["x"], "o": {}, "big": 1}.items():
            assert compared("c1", "Ann", **MEMBERS | {name: value}) == [f"metadata.{name}"]
        assert compared("c2", "Bo", none=None) == compared("c3", "Cy", none=None) == "same"
        assert [compared(*of_record, n=1) for of_record in (("c2", "Bo"), ("c3", "Cy"))] == [["metadata.n"]] * 2
        assert compared("c4", "Di", n=1) == ["metadata.n"], "whatever the column has"
        assert compared("c4", "Di", none=None) == ["metadata.none"], "nobody knows whether it is null"


@pytest.mark.parametrize("header", ["source_id,name", "Source ID,Name", "SourceId,name", "Source-ID,NAME"])
def test_the_columns_are_found_however_they_are_called(header: str) -> None:
    with found_in(f"{header}\nc1,Ann\n", ("name",)) as found:
        assert found.compare(["c1", "c2"], [b'{"source_id":"c1","name":"Ann"}', b'{"source_id":"c2"}']) == [
            "same",
            "absent",
        ]


def test_a_file_without_anything_has_no_records() -> None:
    with found_in("", ("name",)) as found:
        assert (found.number, found.compare(["c1"], [b'{"source_id":"c1"}'])) == (0, ["absent"])


def test_an_export_without_the_key_quotes_nothing() -> None:
    with FoundRecords("source_id", [("email",)]) as found, pytest.raises(VoucherifyExportError) as error:
        found.read(BytesIO(b"c1,ann@example.com\n"))
    assert "ann" not in str(error.value)


@pytest.mark.parametrize(
    ("sent", "cell"),
    [
        ("9999-12-31T23:59:59-05:00", "2026-01-01T00:00:00Z"),
        (5, "5e99999999999999999999"),
        (5, "5" * 5_000),
        (1.5, "1e400"),
        ("2026-02-31", "2026-03-03"),
    ],
)
def test_odd_values_are_different_and_no_error(sent: object, cell: str) -> None:
    assert not is_same(sent, cell)


def test_an_address_that_was_cleared_has_no_members() -> None:
    assert not list(differing_members({"address": None}, {"address": {"city": None, "country": None}}))
    assert list(differing_members({"address": None}, {"address": {"city": "Cork"}}))
