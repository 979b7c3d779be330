"""``failures.jsonl``: what it says, and that sending it again sends what was meant, exactly."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.endpoints import METADATA_ENDPOINTS, UPDATE_ENDPOINTS
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.bodies import records_of
from airflow_provider_voucherify.sync.batches.destination import metadata_destination
from airflow_provider_voucherify.sync.rows.failure_lines import failure_line
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_file, from_records
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.text import shortened

ReadRows = Callable[..., Any]
FAILED = Failure("failed", "c1", "invalid_payload", "Invalid payload", "and why", "aa_1")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False)
)


def lines_file(lines: list[bytes]) -> Any:
    return from_file(io.BytesIO(b"".join(lines)), "failures.jsonl")


def test_a_line_is_the_record_and_why_it_failed() -> None:
    line = failure_line(FAILED, "record", {"source_id": "c1", "name": "Zażółć"})

    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "source_id": "c1",
        "name": "Zażółć",
        "_failure": {
            "form": "record",
            "outcome": "failed",
            "id": "c1",
            "key": "invalid_payload",
            "message": "Invalid payload",
            "details": "and why",
            "async_action_id": "aa_1",
        },
    }


RECORDS = st.fixed_dictionaries(
    {"source_id": st.uuids().map(str)},
    optional={
        "name": TEXTS,
        "birthdate": st.dates().map(str),
        "address": st.none() | st.fixed_dictionaries({"city": TEXTS}),
        "metadata": st.dictionaries(TEXTS, SCALARS | st.lists(SCALARS, max_size=2), max_size=3),
    },
)


@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_failed_records_are_sent_again_as_they_were(read: ReadRows, records: list[dict[str, Any]]) -> None:
    """No mapping applies to them a second time, and a null that was sent is sent again."""
    lines = [failure_line(FAILED, "record", record) for record in records]
    rules = MappingRules({"id": "source_id", "n": "name"}, exclude_columns=["source_id"])

    done = read("customers", lines_file(lines), rules)

    assert done.records == records


@pytest.mark.parametrize("number", ["0.1", "12345678901234567890.125", "1E+30", "-0.0", "1e-7"])
def test_numbers_survive_failing_exactly(read: ReadRows, number: str) -> None:
    body = b'[{"source_id":"c","metadata":{"n":' + number.encode() + b"}}]"
    lines = [failure_line(FAILED, "record", record) for _, record in records_of(body, UPDATE_ENDPOINTS["customers"])]

    (again,) = read("customers", lines_file(lines)).bodies

    assert json.loads(again, parse_float=Decimal) == json.loads(body, parse_float=Decimal)


ROWS = st.fixed_dictionaries(
    {"id": st.none() | st.just("") | st.uuids().map(str)},
    optional={"n": TEXTS | st.none(), "born": st.dates() | st.just("soon"), "ltv": st.decimals(-99, 99, places=2)},
)


@given(st.lists(ROWS, max_size=8))
def test_refused_rows_are_refused_again_for_the_same_reasons(read: ReadRows, rows: list[dict[str, Any]]) -> None:
    rules = MappingRules({"id": "source_id", "n": "name", "born": "birthdate", "ltv": "metadata.ltv"})
    done = read("customers", rows, rules)

    again = read("customers", lines_file(done.failures), rules)

    assert (again.refused, again.reasons) == (done.refused, done.reasons)


def test_a_refused_row_is_mapped_again_once_it_is_mended(read: ReadRows) -> None:
    rules = MappingRules({"id": "source_id", "born": "birthdate", "ltv": "metadata.ltv"})
    done = read("customers", [{"id": "c1", "born": "29.02.1980", "ltv": Decimal("1.50")}], rules)
    fixed = [line.replace(b"29.02.1980", b"1980-02-29") for line in done.failures]

    (body,) = read("customers", lines_file(fixed), rules).bodies

    assert body == b'[{"source_id":"c1","birthdate":"1980-02-29","metadata":{"ltv":1.50}}]'


@pytest.mark.parametrize("value", [float("nan"), Decimal("Infinity"), b"\xff", "a\ud800", 2**70, {"a": float("inf")}])
def test_a_value_that_json_cannot_hold_does_not_slip_through_the_file(read: ReadRows, value: Any) -> None:
    """In the file it can only be shown as text; sent again unmended, that text would pass for the value."""
    done = read("customers", [{"source_id": "c1", "m": value}])

    again = read("customers", lines_file(done.failures))

    assert (done.refused, again.refused, again.bodies) == (1, 1, [])


def test_rows_and_records_can_be_mixed_in_one_file(read: ReadRows) -> None:
    rules = MappingRules({"n": "name", "id": "source_id"})
    lines = [
        failure_line(FAILED, "record", {"source_id": "c1", "name": "Ann"}),
        failure_line(FAILED, "row", {"id": "c2", "n": "Bob"}),
        b'{"id": "c3", "n": "Cid"}\n',
        failure_line(FAILED, "record", {"source_id": "c4"}),
    ]

    done = read("customers", lines_file(lines), rules)

    assert done.records == [
        {"source_id": "c1", "name": "Ann"},
        {"source_id": "c2", "name": "Bob"},
        {"source_id": "c3", "name": "Cid"},
        {"source_id": "c4"},
    ]


@pytest.mark.parametrize(
    ("endpoint", "body", "records"),
    [
        (
            UPDATE_ENDPOINTS["customers"],
            b'[{"source_id":"c1","name":"Ann"},{"source_id":"c2"}]',
            [("c1", {"source_id": "c1", "name": "Ann"}), ("c2", {"source_id": "c2"})],
        ),
        (
            METADATA_ENDPOINTS["vouchers"],
            b'{"codes":["v1","v2"],"metadata":{"a":1}}',
            [("v1", {"code": "v1", "metadata": {"a": 1}}), ("v2", {"code": "v2", "metadata": {"a": 1}})],
        ),
    ],
    ids=["records", "ids"],
)
def test_records_are_read_back_from_what_was_sent(endpoint: Any, body: bytes, records: list[Any]) -> None:
    assert list(records_of(body, endpoint)) == records


def test_failed_ids_get_the_metadata_of_the_new_run(read: ReadRows) -> None:
    lines = [failure_line(FAILED, "record", {"code": "v1", "metadata": {"a": 1}})]

    assert read(metadata_destination("vouchers", {"a": 2}), lines_file(lines)).bodies == [
        b'{"codes":["v1"],"metadata":{"a":2}}'
    ]
    assert read(metadata_destination("vouchers", None), lines_file(lines)).record["metadata"] == {"a": 1}


@given(st.text(max_size=1_200))
def test_a_message_of_any_length_becomes_one_short_line(text: str) -> None:
    short = shortened(text) or ""

    assert len(short.splitlines()) <= 1
    assert len(short) <= 500 or any("\ud800" <= c <= "\udfff" for c in text)
    assert json.loads(failure_line(Failure("failed", None, None, text), "row", {}))["_failure"]["message"] == short


MARKS = [
    {"form": "record"},
    {"form": "id"},
    {"form": "row", "attempts": 99},
    {"attempts": 99, "at": 4_000_000_000, "as_text": ["name"]},
    "broken",
]


@pytest.mark.parametrize("mark", MARKS, ids=repr)
@pytest.mark.parametrize("where", ["records", "rows.jsonl", "failures.csv.jsonl"])
def test_a_member_of_a_row_never_passes_for_a_mark_of_a_failures_file(read: ReadRows, where: str, mark: Any) -> None:
    rows = [{"id": "c1", "name": "Ann", "card": "4111", "_failure": mark}, {"id": "c2", "_failure": mark}]
    lines = io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    rules = MappingRules({"id": "source_id", "name": "name", "card": "metadata.card"}, exclude_columns=["card"])

    source = from_records(rows, "source_id") if where == "records" else from_file(lines, where)
    done = read("customers", source, rules)

    assert (done.records, done.refused) == ([{"source_id": "c1", "name": "Ann"}, {"source_id": "c2"}], 0)


@pytest.mark.parametrize("where", ["records", "rows.jsonl"])
def test_it_is_a_column_like_any_other(read: ReadRows, where: str) -> None:
    rows = [{"source_id": "c1", "_failure": {"form": "id"}}, {"source_id": "c2", "n": 1, "_failure": "late"}]
    lines = io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    source = from_records(rows, "source_id") if where == "records" else from_file(lines, where)

    assert [record["metadata"]["_failure"] for record in read("customers", source).records] == [{"form": "id"}, "late"]


def test_a_failures_file_of_another_name_is_refused_with_what_to_do() -> None:
    line = failure_line(FAILED, "record", {"source_id": "c1"})

    with pytest.raises(VoucherifyConfigurationError, match=r"as only failures\.jsonl and set_aside\.jsonl have them"):
        list(from_file(io.BytesIO(line), "s3://bucket/fixed.jsonl"))


@pytest.mark.parametrize("name", ["/tmp/reports/set_aside.jsonl", "s3://bucket/failures.jsonl?version=3"])
def test_the_name_of_the_file_tells_wherever_it_is(read: ReadRows, name: str) -> None:
    line = failure_line(FAILED, "record", {"source_id": "c1", "name": "Ann"})

    done = read("customers", from_file(io.BytesIO(line), name), MappingRules({"id": "source_id"}))

    assert done.record == {"source_id": "c1", "name": "Ann"}
