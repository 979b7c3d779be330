"""Missing values: left out, so that nothing is blanked by accident, unless a null is asked for where it is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import metadata_destination
from airflow_provider_voucherify.sync.rows.chunks import Rows
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_cursor, from_file

ReadRows = Callable[..., Any]
EMPTY_ROW = {
    "source_id": "c",
    "name": None,
    "birthdate": None,
    "address": None,
    "metadata": None,
    "tier": None,
}


def test_missing_values_are_not_sent(read: ReadRows) -> None:
    assert read("customers", [EMPTY_ROW]).record == {"source_id": "c"}


def test_send_sends_null_where_the_description_allows_it_and_nowhere_else(read: ReadRows) -> None:
    done = read("customers", [EMPTY_ROW], MappingRules(null_policy="send"))

    assert done.record == {"source_id": "c", "address": None, "metadata": {"tier": None}}


@pytest.mark.parametrize(
    "address",
    [
        {"address_city": "Łódź", "address_state": None},
        {"address": {"city": "Łódź", "state": None}},
        {"address": '{"city": "Łódź", "state": null}'},
    ],
    ids=["columns", "dict", "JSON text"],
)
def test_a_part_of_the_address_can_be_null_when_asked_for(read: ReadRows, address: dict[str, Any]) -> None:
    """The vendor's own test of bulk updates sends it and reads it back."""
    row = {"source_id": "c"} | address

    assert read("customers", [row]).record["address"] == {"city": "Łódź"}
    assert read("customers", [row], MappingRules(null_policy="send")).record["address"] == {
        "city": "Łódź",
        "state": None,
    }


def parquet(row: dict[str, Any]) -> Rows:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([row] * 20), file)
    file.seek(0)
    return from_file(file, "rows.parquet")


def query(row: dict[str, Any]) -> Rows:
    """Give rows as a driver does that reads ``jsonb`` or a STRUCT."""
    left = [[tuple(row.values())] * 20]
    return from_cursor(list(row), lambda size: left.pop() if left else [])


SOURCES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dict": lambda row: [row] * 20,
    "one dict": lambda row: [row],
    "JSON text": lambda row: query({n: json.dumps(v) if n in ("metadata", "a") else v for n, v in row.items()}),
    "jsonb": query,
    "STRUCT": parquet,
    "JSON lines": lambda row: from_file(BytesIO(json.dumps(row).encode() + b"\n"), "rows.jsonl"),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], Any]:
    return SOURCES[request.param]


OBJECT = {"plan": None, "since": 2020, "prefs": {"news": None, "sms": True}, "none": {"a": {"b": None}}}


def test_members_of_an_object_that_are_missing_are_not_sent_wherever_the_object_comes_from(
    read: ReadRows, source: Callable[[dict[str, Any]], Any]
) -> None:
    done = read("customers", source({"source_id": "c", "metadata": OBJECT}))

    assert done.records[0] == {"source_id": "c", "metadata": {"since": 2020, "prefs": {"sms": True}}}


def test_members_of_an_object_that_are_missing_are_sent_when_asked_for(
    read: ReadRows, source: Callable[[dict[str, Any]], Any]
) -> None:
    for policy in ("send", {"metadata": "send"}):
        done = read("customers", source({"source_id": "c", "metadata": OBJECT}), MappingRules(null_policy=policy))

        assert done.records[0] == {"source_id": "c", "metadata": OBJECT}


def test_an_object_of_which_nothing_is_left_is_missing(read: ReadRows, source: Callable[[dict[str, Any]], Any]) -> None:
    """It would say nothing where Voucherify merges metadata, and blank all of it where it replaces it."""
    rows = {"id": "c", "a": {"plan": None, "deep": {"a": None}}}
    rules = MappingRules({"id": "source_id", "a": "metadata"})
    of_voucher = MappingRules({"id": "code", "a": "metadata"})

    assert read("customers", source(rows), rules).records[0] == {"source_id": "c"}
    done = read("vouchers", source(rows), of_voucher)
    assert (done.bodies, done.reasons[0][0]) == ([], "nothing_to_send")


def test_nulls_in_a_list_stay_and_so_does_an_object_that_was_empty_before(
    read: ReadRows, source: Callable[[dict[str, Any]], Any]
) -> None:
    sent = read("customers", source({"source_id": "c", "tags": [None, {"a": None, "b": 2}], "n": 1})).records[0]

    assert sent["metadata"]["tags"] == [None, {"b": 2}]
    assert read("customers", [{"source_id": "c", "tags": [{"a": None}], "prefs": {}}]).record["metadata"] == {
        "tags": [{}],
        "prefs": {},
    }


JSON = st.recursive(
    st.sampled_from([None, 1, "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), min_size=1, max_size=20))
def test_no_object_that_is_sent_has_a_null_unless_it_is_asked_for(read: ReadRows, objects: list[Any]) -> None:
    done = read("customers", [{"source_id": f"c{number}", "tags": value} for number, value in enumerate(objects)])

    assert done.refused == 0
    for value, record in zip(objects, done.records, strict=True):
        assert not has_null_member(record)
        assert leaves(record.get("metadata", {}).get("tags")) == leaves(value)


def has_null_member(value: Any) -> bool:
    if isinstance(value, dict):
        return None in value.values() or any(map(has_null_member, value.values()))
    return isinstance(value, list) and any(map(has_null_member, value))


def leaves(value: Any) -> list[Any]:
    """Return what a value holds besides objects and lists, and besides the nulls of objects."""
    if isinstance(value, dict):
        return [leaf for item in value.values() if item is not None for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in ([None] if item is None else leaves(item))]
    return [] if value is None else [value]


@pytest.mark.parametrize(
    ("policy", "sent"),
    [
        ("omit", {"since": 2020, "prefs": {"sms": True}}),
        ("send", OBJECT),
        ({"plan": "send"}, {"plan": None, "since": 2020, "prefs": {"sms": True}}),
    ],
    ids=str,
)
def test_the_policy_holds_for_one_metadata_object_for_all(read: ReadRows, policy: Any, sent: dict[str, Any]) -> None:
    destination = metadata_destination("customers", OBJECT, null_policy=policy)

    (body,) = read(destination, query({"source_id": "c"}), MappingRules(null_policy=policy)).bodies

    assert json.loads(body)["metadata"] == sent


def test_one_metadata_object_of_which_nothing_is_left_is_a_mistake() -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"metadata is empty, .*null_policy='send' sends"):
        metadata_destination("customers", {"plan": None})


@pytest.mark.parametrize("order", [["address", "address_city"], ["address_city", "address"]])
def test_a_given_part_wins_over_a_null_address(read: ReadRows, order: list[str]) -> None:
    row = {"source_id": "c"} | {name: {"address": None, "address_city": "Łódź"}[name] for name in order}

    assert read("customers", [row], MappingRules(null_policy="send")).record["address"] == {"city": "Łódź"}


def test_the_policy_can_be_set_per_column(read: ReadRows) -> None:
    row = {"source_id": "c", "tier": None, "since": None, "address": None}

    done = read("customers", [row], MappingRules(null_policy={"tier": "send", "since": "omit"}))

    assert done.record == {"source_id": "c", "metadata": {"tier": None}}


@pytest.mark.parametrize(
    ("resource", "column"),
    [("customers", "name"), ("customers", "birthdate"), ("products", "attributes"), ("products", "price")],
)
def test_a_null_that_the_description_does_not_allow_is_refused_when_asked_for(
    read: ReadRows, resource: str, column: str
) -> None:
    left = [[("c", None)]]
    rows = from_cursor(["source_id", column], lambda size: left.pop() if left else [])

    with pytest.raises(VoucherifyConfigurationError, match=f"to send null for '{column}', but .* does not allow null"):
        read(resource, rows, MappingRules(null_policy={column: "send"}))


def test_of_records_that_differ_only_the_ones_concerned_are_refused_for_it(read: ReadRows) -> None:
    rows = [{"source_id": "a"}, {"source_id": "b", "name": None}]

    done = read("customers", rows, MappingRules(null_policy={"name": "send"}))

    assert [record["source_id"] for record in done.records] == ["a"]
    assert "does not allow null in name" in (done.reasons[0][1] or "")


@pytest.mark.parametrize("metadata", [{}, {"tier": None}])
def test_an_update_of_nothing_is_refused(read: ReadRows, metadata: dict[str, Any]) -> None:
    destination = metadata_destination("vouchers", None)

    key, message = read(destination, [{"code": "v"} | metadata]).reason

    assert (key, message) == ("nothing_to_send", "metadata is empty, there is nothing to update")


def test_a_null_in_metadata_is_something_to_send(read: ReadRows) -> None:
    done = read(metadata_destination("vouchers", None), [{"code": "v", "a": None}], MappingRules(null_policy="send"))

    assert done.record == {"code": "v", "metadata": {"a": None}}
