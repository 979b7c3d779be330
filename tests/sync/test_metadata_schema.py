"""A project's metadata schema: what it surely refuses is refused in the vendor's words, the rest is the server's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_voucherify.models.metadata_schema import MetadataSchema
from airflow_provider_voucherify.sync.rows.metadata_rules import MetadataRules, RefusedMetadataError, compile_schema

PLACE = {
    "related_object": "Place",
    "properties": {
        "floor": {"type": "number", "array": False, "optional": False},
        "inner": {"type": "object", "array": False, "optional": True, "objectType": "Place"},
    },
    "allow_defined_only": True,
}
HOME = {"type": "object", "objectType": "Place"}


def rules_of(**properties: Any) -> MetadataRules:
    """Compile a schema; definitions need not say that they are optional and no list."""
    complete = {key: {"array": False, "optional": True} | definition for key, definition in properties.items()}
    return compile_schema(
        MetadataSchema.model_validate({"properties": complete}), [MetadataSchema.model_validate(PLACE)]
    )


def closed(**properties: Any) -> MetadataRules:
    """Compile a schema that allows nothing else."""
    complete = {key: {"array": False, "optional": True} | definition for key, definition in properties.items()}
    return compile_schema(MetadataSchema.model_validate({"properties": complete, "allow_defined_only": True}))


def refusal(rules: MetadataRules, metadata: dict[str, Any]) -> str | None:
    try:
        rules.check(metadata)
    except RefusedMetadataError as error:
        return str(error)
    return None


def column_refusal(rules: MetadataRules, key: str, value: Any) -> str | None:
    check = rules.column_check(key)
    try:
        if check is not None:
            check(value)
    except RefusedMetadataError as error:
        return str(error)
    return None


def refused(definition: dict[str, Any], value: Any) -> bool:
    """Say whether a value is refused; checks of a column and of whole metadata say the same."""
    rules = rules_of(key=definition)
    of_column = column_refusal(rules, "key", value)
    assert of_column == refusal(rules, {"key": value})
    return of_column is not None


@pytest.mark.parametrize(
    ("key", "definition", "value", "details"),
    [
        (
            "acquisition_channel",
            {"type": "string", "optional": False, "eq": ["Facebook", "Twitter", "Website"]},
            True,
            "acquisition_channel: must be a string, property is required, must be equal to one of "
            "Facebook,Twitter,Website (actual value is 'true')",
        ),
        (
            "location_id",
            {"type": "string", "array": True, "eq": ["L1", "L2", "L3"]},
            "L1",
            "location_id: must be an array, and every element: must be a string, must be equal to one of L1,L2,L3 "
            "(actual value is 'L1')",
        ),
        (
            "unit",
            {"type": "number", "optional": False},
            "EUR",
            "unit: must be a number, property is required (actual value is 'EUR')",
        ),
        (
            "ImageURL",
            {"type": "image_url"},
            "http.com",
            "ImageURL: must be a URL pointing to JPG/JPEG or PNG resource (actual value is 'http.com')",
        ),
    ],
)
def test_a_refusal_reads_as_the_vendor_s_published_ones(
    key: str, definition: dict[str, Any], value: Any, details: str
) -> None:
    rules = rules_of(**{key: definition})

    assert refusal(rules, {key: value}) == details
    assert column_refusal(rules, key, value) == details


REFUSED: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "string"}, [1, 1.5, Decimal(1), True, ["a"], {"a": 1}]),
    ({"type": "string", "eq": ["a", "b"]}, ["c", "", "A", ["a"]]),
    ({"type": "string", "ne": ["a"]}, ["a"]),
    ({"type": "string", "minLength": 2}, ["", "a", "é"]),
    ({"type": "string", "maxLength": 2}, ["abc", "😀😀😀"]),
    ({"type": "string", "exactLength": 3}, ["ab", "abcd", "😀😀", "😀😀😀😀"]),
    ({"type": "number"}, ["1", "EUR", "", True, False, [1], {}]),
    ({"type": "number", "lt": 5}, [5, 5.0, Decimal("5.0"), 6]),
    ({"type": "number", "lte": 5}, [6, 5.1, Decimal("5.1")]),
    ({"type": "number", "gt": 5}, [5, 4, Decimal(5)]),
    ({"type": "number", "gte": 5}, [4, 4.9, Decimal("4.9"), -(2**63)]),
    ({"type": "number", "lt": 0.1}, [0.1, Decimal("0.1"), Decimal("0.10")]),
    ({"type": "number", "eq": [1, 2.5]}, [2, 2.50001, Decimal("2.4"), "1"]),
    ({"type": "number", "ne": [1, 0.1]}, [1, 1.0, Decimal(1), Decimal("0.1"), 0.1]),
    ({"type": "boolean"}, ["true", 1, 0, [], {}]),
    ({"type": "date"}, ["today", "", "31.01.2020", "2020-13-01", "2020-01-32", "01/31/2020", 20200131, True, {}]),
    ({"type": "datetime"}, ["now", "2020-03-11T25:00:00Z", "2020-03-11T09:60:00Z", "1583917200", 1583917200, []]),
    ({"type": "geopoint"}, ["north", "37.78", "37,78,-122,39", "37.78 -122.39", 37.78, [37.78, -122.39], {"lat": 1}]),
    ({"type": "image_url"}, ["http.com", "https://a.com/b.gif", "", 7, True, []]),
    ({"type": "object"}, ["{}", 1, True, [], [{}]]),
    (HOME, [{"floor": "3rd"}, {"floor": 1, "inner": "none"}, "Place"]),
    ({"type": "number", "array": True, "lt": 3}, [1, "1", {}, [1, 5], ["1"], [[1]]]),
    ({"type": "date", "array": True}, ["2020-01-31", ["2020-01-31", "today"]]),
    ({**HOME, "array": True}, [{"floor": 1}, [{"floor": 1}, {"floor": "3rd"}], [1], [[{}]]]),
]


@pytest.mark.parametrize(("definition", "values"), REFUSED, ids=[str(definition) for definition, _ in REFUSED])
def test_what_is_surely_refused_is_refused(definition: dict[str, Any], values: list[Any]) -> None:
    assert [value for value in values if not refused(definition, value)] == []


ACCEPTED: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "string"}, ["", "a", "ż"]),
    ({"type": "string", "eq": ["a", "b"]}, ["a", "b"]),
    ({"type": "string", "ne": ["a"]}, ["b"]),
    ({"type": "string", "minLength": 1, "maxLength": 2}, ["a", "ab"]),
    ({"type": "number"}, [1, 1.5, Decimal("1.5"), 2**64 - 1]),
    ({"type": "number", "gte": 1, "lt": 5}, [1, 4.99, Decimal("4.99"), Decimal("1.00")]),
    ({"type": "number", "gte": 0.1, "lte": 0.3}, [0.1, 0.3, Decimal("0.1"), Decimal("0.3")]),
    ({"type": "number", "eq": [1, 0.1]}, [1, 1.0, 0.1, Decimal("1.0"), Decimal("0.1")]),
    ({"type": "number", "ne": [1]}, [2, 1.1, Decimal("1.1")]),
    ({"type": "boolean"}, [True, False]),
    ({"type": "date"}, ["2020-03-11"]),
    ({"type": "datetime"}, ["2020-03-11T09:00:00.000Z", "2020-03-11T09:00:00+02:00", "2020-03-11T09:00"]),
    ({"type": "geopoint"}, ["37.786971, -122.399677", "0,0"]),
    ({"type": "image_url"}, ["https://images.com/original.jpg", "https://images.com/a.PNG?size=2"]),
    ({"type": "object"}, [{}, {"any": {"thing": [1]}}]),
    (HOME, [{"floor": 1}, {"floor": 1, "inner": {"floor": "3rd"}}]),
    ({"type": "string", "array": True, "eq": ["L1", "L2"]}, [[], ["L1"], ["L2", "L1"]]),
    ({**HOME, "array": True}, [[], [{"floor": 1}]]),
]


@pytest.mark.parametrize(("definition", "values"), ACCEPTED, ids=[str(definition) for definition, _ in ACCEPTED])
def test_what_fits_passes(definition: dict[str, Any], values: list[Any]) -> None:
    assert [value for value in values if refused(definition, value)] == []


LEFT_TO_VOUCHERIFY: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "string", "optional": False, "eq": ["a"], "minLength": 1}, [None]),
    ({"type": "number", "gt": 1}, [None]),
    ({"type": "boolean", "array": True}, [None, [None], [True, None]]),
    ({**HOME, "array": True}, [None, [None]]),
    (HOME, [None, {"floor": None}, {"colour": "red"}, {}]),
    ({"type": "object", "objectType": "a schema that nobody read"}, [{"floor": "3rd"}]),
    ({"type": "a type of the future", "array": True}, [1, "a", [1], {}]),
    ({"type": "string", "array": None}, [1, ["a"]]),
    ({"type": "string", "deleted": True, "eq": ["a"]}, [1, "b"]),
    ({"type": "string", "eq": []}, ["a"]),
    ({"type": "string", "eq": ["a", 1]}, ["b"]),
    ({"type": "number", "eq": ["1", "2"]}, [3]),
    ({"type": "number", "ne": ["1", True]}, [1]),
    ({"type": "date", "eq": ["2020-01-01"], "maxLength": 1}, ["2020-01-02"]),
    ({"type": "boolean", "eq": [True], "lt": 0}, [False]),
    ({"type": "string", "maxLength": 1, "lt": 0}, ["😀"]),
    ({"type": "string", "exactLength": 2}, ["😀"]),
    ({"type": "string", "minLength": 2}, ["😀"]),
    ({"type": "number", "lt": 1}, [Decimal("0.99999999999999999999"), 0.9999999999999999]),
    ({"type": "number", "eq": [0.1]}, [Decimal("0.1000000000000000000001")]),
    ({"type": "number", "ne": [2**53]}, [2**53 + 1]),
    ({"type": "date"}, ["2020-03-11T09:00:00.000Z", "2020-02-30", "2020", "2020-03", "20200311", "2020-W11-3"]),
    ({"type": "datetime"}, ["2020-03-11", "2020-03-11t24:00z", "2020-03-11 09:00:60.5 +0000", "+002020-071"]),
    ({"type": "geopoint"}, ["91, 181", " 1e1 ,-.5"]),
    ({"type": "image_url"}, ["cdn/a.jpeg", "https://a.com/render?format=png"]),
]


@pytest.mark.parametrize(
    ("definition", "values"), LEFT_TO_VOUCHERIFY, ids=[str(definition) for definition, _ in LEFT_TO_VOUCHERIFY]
)
def test_where_the_answer_is_not_documented_voucherify_decides(definition: dict[str, Any], values: list[Any]) -> None:
    assert [value for value in values if refused(definition, value)] == []


def test_a_required_key_that_is_missing_is_left_to_voucherify() -> None:
    """The object may exist and have it."""
    rules = rules_of(
        unit={"type": "number", "optional": False},
        old={"type": "number", "optional": False, "deleted": True},
        new={"type": "a type of the future", "optional": False},
        unsaid={"type": "number", "optional": None},
        home=HOME,
    )

    assert [refusal(rules, sent) for sent in ({}, {"new": 1}, {"unit": None}, {"home": {}})] == [None] * 4


def test_every_wrong_key_is_named() -> None:
    rules = rules_of(a={"type": "number"}, b={"type": "boolean"}, homes={**HOME, "array": True})

    assert refusal(rules, {"a": "x", "b": 0, "homes": [{"floor": 1}, None, {"floor": "2nd"}, {"floor": []}]}) == (
        "a: must be a number (actual value is 'x'); b: must be a boolean (actual value is '0'); "
        "homes.floor: must be a number, property is required (actual value is '2nd'); "
        "homes.floor: must be a number, property is required (actual value is '[]')"
    )


def test_unknown_keys_are_refused_where_only_defined_ones_are_allowed() -> None:
    free, rules = rules_of(a={"type": "number"}), closed(a={"type": "number"}, old={"deleted": True})
    told = "other: property is not defined (actual value is '1')"

    assert not free.unknown_key("other")
    assert free.column_check("other") is None
    assert refusal(free, {"other": 1}) is None
    assert [rules.unknown_key(name) for name in ("a", "old", "other")] == [False, False, True]
    assert refusal(rules, {"a": 1, "old": 1, "other": 1}) == told
    assert column_refusal(rules, "other", 1) == told
    assert refusal(rules, {"other": None}) is column_refusal(rules, "other", None) is None


def test_a_column_without_rules_has_no_check() -> None:
    rules = rules_of(old={"type": "string", "deleted": True}, new={"type": "a type of the future"})

    assert [rules.column_check(name) for name in ("old", "new", "other")] == [None, None, None]


def test_an_object_type_without_an_object_means_nothing() -> None:
    assert refused({"type": "string", "objectType": "Place"}, {"floor": 1})


def test_long_values_and_lists_are_cut_short() -> None:
    rules = rules_of(key={"type": "string", "eq": [f"value {n}" for n in range(1_000)]})

    text = refusal(rules, {"key": "x" * 1_000})

    assert text is not None
    assert "must be equal to one of value 0,value 1," in text
    assert text.endswith("xxx…')")
    assert len(text) < 450


@pytest.mark.parametrize(
    ("value", "shown"),
    [(Decimal("1.50"), "1.50"), (["ż", Decimal("1.5")], '["ż", 1.5]'), ({"a": None}, '{"a": null}'), (False, "false")],
    ids=repr,
)
def test_a_value_is_shown_as_the_json_that_it_is(value: Any, shown: str) -> None:
    text = refusal(rules_of(key={"type": "string"}), {"key": value})

    assert text == f"key: must be a string (actual value is '{shown}')"
