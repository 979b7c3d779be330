"""Where columns go: by name, by a mapping, and not at all; mistakes in it are said before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.endpoints import UPDATE_ENDPOINTS
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import metadata_destination
from airflow_provider_voucherify.sync.rows.mapping import MappingRules, check_mapping, compile_mapping
from airflow_provider_voucherify.sync.rows.sources import from_cursor

ReadRows = Callable[..., Any]
CUSTOMERS = UPDATE_ENDPOINTS["customers"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def table(columns: list[str], *rows: tuple[Any, ...]) -> Any:
    """Return rows of a query: all have the same columns."""
    left = [list(rows)]
    return from_cursor(columns, lambda size: left.pop() if left else [])


def test_columns_named_as_fields_become_fields_and_the_others_metadata(read: ReadRows) -> None:
    columns = ["SOURCE_ID", "Name", "birthdate", "address_city", "address.Postal_Code", "tier", "metadata.since"]
    columns += ["METADATA.SEGMENT"]

    done = read("customers", table(columns, ("c", "Ann", "1980-02-29", "Łódź", "90-001", "gold", 2020, "A")))

    assert done.record == {
        "source_id": "c",
        "name": "Ann",
        "birthdate": "1980-02-29",
        "address": {"city": "Łódź", "postal_code": "90-001"},
        "metadata": {"tier": "gold", "since": 2020, "SEGMENT": "A"},
    }


@pytest.mark.parametrize(
    ("resource", "columns", "record"),
    [
        ("products", ["source_id", "price"], {"source_id": "1", "price": 2}),
        ("products", ["source_id", "email"], {"source_id": "1", "metadata": {"email": 2}}),
        ("vouchers", ["code", "price"], {"code": "1", "metadata": {"price": 2}}),
        ("vouchers", ["code", "source_id"], {"code": "1", "metadata": {"source_id": 2}}),
    ],
)
def test_each_resource_has_its_own_fields(
    read: ReadRows, resource: str, columns: list[str], record: dict[str, Any]
) -> None:
    assert read(resource, table(columns, (1, 2))).record == record


def test_a_mapping_says_all_there_is_to_send(read: ReadRows) -> None:
    rules = MappingRules({"id": "source_id", "town": "address.city", "seg": "metadata.segment", "seg2": "metadata.a.b"})

    done = read("customers", table(["id", "town", "seg", "seg2", "name"], ("c", "Łódź", "a", "b", "Ann")), rules)

    assert done.record == {
        "source_id": "c",
        "address": {"city": "Łódź"},
        "metadata": {"segment": "a", "a.b": "b"},
    }


@pytest.mark.parametrize(
    ("rules", "metadata"),
    [
        (MappingRules(metadata_columns=["a"]), {"a": 1}),
        (MappingRules(exclude_columns=["a"]), {"b": 2}),
        (MappingRules(metadata_columns=["a", "b"], exclude_columns=["a"]), {"b": 2}),
        (MappingRules(metadata_columns=[]), None),
        (MappingRules(exclude_columns=["A"]), {"b": 2}),
    ],
    ids=repr,
)
def test_what_goes_into_metadata_can_be_narrowed(
    read: ReadRows, rules: MappingRules, metadata: dict[str, Any] | None
) -> None:
    done = read("customers", table(["source_id", "a", "b"], ("c", 1, 2)), rules)

    assert done.record == {"source_id": "c"} | ({} if metadata is None else {"metadata": metadata})


@pytest.mark.parametrize("order", [["metadata", "tier"], ["tier", "metadata"]])
def test_a_column_wins_over_a_member_of_the_whole_object(read: ReadRows, order: list[str]) -> None:
    row = {"metadata": {"tier": "old", "since": 2020}, "tier": "gold"}

    done = read("customers", table(["source_id", *order], ("c", *(row[name] for name in order))))

    assert done.record["metadata"] == {"tier": "gold", "since": 2020}


@pytest.mark.parametrize(
    ("columns", "rules", "said"),
    [
        (["id", "name"], {}, "no column gives source_id, which customers need; the rows have 'id', 'name'"),
        (["name"], {"mapping": {"name": "name"}}, "names no column for source_id"),
        (["source_id"], {"exclude_columns": ["source_id"]}, "no column gives source_id"),
        (["id"], {"mapping": {"id": "source_id", "nme": "name"}}, "column 'nme' that the rows do not have"),
        (["id", "n"], {"mapping": {"id": "source_id", "n": "nmae"}}, "no field 'nmae', only .*did you mean 'name'"),
        (
            ["id", "n"],
            {"mapping": {"id": "source_id", "n": "address.town"}},
            "no field 'address.town'; address has city",
        ),
        (["id", "n"], {"mapping": {"id": "source_id", "n": "name.first"}}, "no field 'name.first'"),
        (["id", "a"], {"mapping": {"id": "source_id", "a": "source_id"}}, "'id' and 'a' would both become source_id"),
        (["source_id", "Source_Id"], {}, "'source_id' and 'Source_Id' would both become source_id"),
        (["source_id", "address_city", "address.city"], {}, "would both become address.city"),
        (["source_id", "a", "metadata.a"], {}, "would both become metadata.a"),
        (["source_id"], {"metadata_columns": ["b"]}, "metadata_columns names columns that the rows do not have"),
        (["source_id", "a", "a"], {}, "several columns have the name 'a', .* none of them .exclude_columns=.'a'."),
        (["source_id"], {"metadata_columns": "a"}, "metadata_columns must be a list"),
        (["source_id"], {"exclude_columns": "a"}, "exclude_columns must be a list"),
        (["source_id"], {"exclude_columns": [5]}, r"exclude_columns must be a list of column names, not \[5\]"),
        (["source_id"], {"metadata_columns": 5}, "metadata_columns must be a list of column names, not 5"),
        (["a"], {"mapping": {"a": ["source_id", "name"]}}, "not 'a' .*to send a column to two fields, the source must"),
        (["a"], {"mapping": {"a": None}}, "mapping must give each column's name one field's name, not 'a' None"),
        (["a"], {"mapping": {"a": 3}}, "mapping must give .* not 'a' 3"),
        (["a"], {"mapping": {3: "source_id"}}, "mapping must give .* not 3 'source_id'"),
        (["a"], {"mapping": "source_id"}, "mapping must be a dict of column to field, not 'source_id'"),
        (["source_id"], {"null_policy": "blank"}, "null_policy must be 'omit' or 'send', not 'blank'"),
        (["source_id"], {"null_policy": {"a": None}}, "null_policy must be 'omit' or 'send', not None"),
        (["source_id"], {"null_policy": {"nmae": "send"}}, "null_policy names columns .* do not have: nmae"),
        (["source_id"], {"exclude_columns": ["emial"]}, "exclude_columns names columns .* do not have: emial"),
    ],
    ids=str,
)
def test_mistakes_are_said_before_anything_is_sent(
    read: ReadRows, columns: list[str], rules: dict[str, Any], said: str
) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        read("customers", table(columns, tuple("x" for _ in columns)), MappingRules(**rules))


def test_vouchers_take_nothing_but_metadata(read: ReadRows) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"no field 'name', only code, metadata; .*'metadata\.name'"):
        read("vouchers", [{"c": "x", "n": "y"}], MappingRules({"c": "code", "n": "name"}))


def test_a_metadata_update_takes_every_other_column_as_metadata(read: ReadRows) -> None:
    done = read(metadata_destination("customers", None), [{"source_id": "c", "name": "Ann", "email": None}])

    assert done.record == {"source_id": "c", "metadata": {"name": "Ann"}}


@given(
    row=st.dictionaries(TEXTS, st.integers(0, 9), max_size=6),
    metadata_columns=st.none() | st.sets(TEXTS, max_size=3),
    exclude_columns=st.sets(TEXTS, max_size=3),
)
def test_no_column_is_sent_that_was_not_asked_for(
    read: ReadRows, row: dict[str, int], metadata_columns: set[str] | None, exclude_columns: set[str]
) -> None:
    row = {"source_id": 0} | {f"x{name}": value for name, value in row.items()}
    only = None if metadata_columns is None else {f"x{name}" for name in metadata_columns} & row.keys()
    never = {f"x{name}" for name in exclude_columns} & row.keys()

    done = read("customers", [row], MappingRules(metadata_columns=only, exclude_columns=never))

    expected = {n: v for n, v in row.items() if n[0] == "x" and n not in never and (only is None or n in only)}
    assert done.record.get("metadata", {}) == expected


@given(st.permutations(["source_id", "name", "address_city", "address", "metadata", "tier"]))
def test_the_order_of_columns_does_not_matter(columns: list[str]) -> None:
    values = {
        "source_id": "c",
        "name": "Ann",
        "address_city": "Łódź",
        "address": {"city": "Warszawa", "state": "x"},
        "metadata": {"tier": 1, "a": 2},
        "tier": 3,
    }

    record = compile_mapping(CUSTOMERS, columns, MappingRules()).build([values[name] for name in columns])

    assert record == {
        "source_id": "c",
        "name": "Ann",
        "address": {"city": "Łódź", "state": "x"},
        "metadata": {"tier": 3, "a": 2},
    }


def test_all_that_is_wrong_with_a_mapping_is_told_before_any_row_is_read() -> None:
    rules = MappingRules({"id": "sourceid", "n": "nmae", "a": "metadata.a", "b": "metadata.a", "c": "metadata.a"})

    with pytest.raises(VoucherifyConfigurationError) as told:
        check_mapping(CUSTOMERS, rules)

    for said in ("no field 'sourceid'", "no field 'nmae'", "'a', 'b' and 'c' would all become metadata.a"):
        assert str(told.value).count(said) == 1
    assert "names no column for source_id" in str(told.value)


@pytest.mark.parametrize(
    ("rules", "warning"),
    [
        (MappingRules({"id": "source_id", "fullname": "name"}), "mapping names columns that no row has: 'fullname'"),
        (MappingRules({"id": "source_id", "sagment": "metadata.s"}), "'sagment' (did you mean 'segment'?)"),
        (MappingRules(metadata_columns=["teir"]), "metadata_columns names columns that no row has: 'teir'"),
        (MappingRules(exclude_columns=["e-mail"]), "exclude_columns names columns that no row has: 'e-mail'"),
        (MappingRules(null_policy={"tear": "send"}), "null_policy names columns that no row has: 'tear'"),
    ],
)
def test_a_name_that_no_row_has_is_warned_of_where_each_row_has_its_own_columns(
    read: ReadRows, caplog: pytest.LogCaptureFixture, rules: MappingRules, warning: str
) -> None:
    done = read("customers", [{"id": "a", "source_id": "a", "segment": 1}, {"id": "b", "source_id": "b"}], rules)

    assert done.rows_read == 2
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning in line


def test_a_column_that_few_rows_have_is_no_mistake(read: ReadRows, caplog: pytest.LogCaptureFixture) -> None:
    rules = MappingRules({"id": "source_id", "NOTE": "metadata.note"}, exclude_columns=["Secret"])
    rows = [{"id": str(row), f"other {row}": 1} for row in range(2_000)]

    done = read("customers", [*rows, {"id": "last", "NOTE": "x", "secret": 1}], rules)
    nothing = read("customers", [], rules)

    assert (done.rows_read, nothing.rows_read) == (2_001, 0)
    assert not caplog.records


def test_two_columns_for_one_field_are_a_mistake_unless_one_is_excluded() -> None:
    both = {"id": "source_id", "n": "name", "m": "name"}

    check_mapping(CUSTOMERS, MappingRules(both, exclude_columns=["M"]))
    with pytest.raises(VoucherifyConfigurationError, match=r"'n' and 'm' would both become name"):
        check_mapping(CUSTOMERS, MappingRules(both))
