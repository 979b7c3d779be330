"""
What holds for every schema and all metadata: our check and the server's own, independent one are of one mind.

The server is asked over HTTP: it is given a schema, shows it, is sent metadata, and says in the action which it failed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_voucherify.client.calls import Body
from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.bulk_result import BulkResult
from airflow_provider_voucherify.models.endpoints import UPDATE_ENDPOINTS
from airflow_provider_voucherify.sync.rows.metadata_rules import RefusedMetadataError, compile_schema
from airflow_provider_voucherify.sync.rows.values import to_object

Metadata = dict[str, Any]
Schema = dict[str, Any]
Judge = Callable[..., list[tuple[Metadata, str | None, str | None]]]

ENCODE = msgspec.json.Encoder(decimal_format="number").encode
TYPES = ("string", "number", "boolean", "date", "datetime", "geopoint", "image_url", "object")
KEYS = ("a", "b", "c")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """
    Give a function that puts metadata of new or known customers to the server and to our check.

    It takes a schema, the schema of ``Place`` and the metadata, and returns each with the server's details and our
    text, None for accepted.
    """
    with LocalVoucherify() as server:
        key = {"application_id": server.options.app_id, "secret_key": server.options.secret_key}
        numbers = itertools.count()
        with VoucherifyClient(ConnectionSettings.build(host=server.base_url, extra={}, **key)) as client:

            def send(records: list[Any]) -> BulkResult:
                action_id = client.bulk(UPDATE_ENDPOINTS["customers"], Body.of(ENCODE(records)))
                return BulkResult.of(client.get_async_action(action_id))

            def both(schema: Schema, place: Schema, metadatas: Sequence[Metadata], *, creating: bool) -> Any:
                ids = [f"c{next(numbers)}" for _ in metadatas]
                if not creating:
                    server.set_metadata_schema("customers", {"properties": {}})
                    assert send([{"source_id": one} for one in ids]).failed_count == 0
                server.set_metadata_schema("customers", schema)
                server.set_metadata_schema("Place", place)
                result = send([{"source_id": one, "metadata": m} for one, m in zip(ids, metadatas, strict=True)])
                said = {error.source_id: error.details for error in result.errors}
                rules = compile_schema(client.get_metadata_schema("customers"), client.list_metadata_schemas().schemas)
                return [
                    (metadata, said.get(one), _ours(rules, metadata))
                    for one, metadata in zip(ids, metadatas, strict=True)
                ]

            yield both


def _ours(rules: Any, metadata: Metadata) -> str | None:
    columns = {key for key, value in metadata.items() if _refuses(rules.column_check(key), value)}
    try:
        rules.check(metadata)
    except RefusedMetadataError as error:
        assert columns
        return str(error)
    assert not columns
    return None


def _refuses(check: Callable[[Any], None] | None, value: Any) -> bool:
    try:
        if check is not None:
            check(value)
    except RefusedMetadataError:
        return True
    return False


def schemas(definitions: st.SearchStrategy[Any], closed: st.SearchStrategy[bool]) -> st.SearchStrategy[Schema]:
    properties = st.dictionaries(st.sampled_from(KEYS), definitions, min_size=1)
    return st.fixed_dictionaries({"properties": properties, "allow_defined_only": closed})


def metadatas(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Metadata]]:
    one = st.dictionaries(st.sampled_from((*KEYS, "other")), values, max_size=4).map(to_object)
    return st.lists(one, min_size=1, max_size=12)


# Anything goes: definitions that make no sense, values of every kind

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    [
        "2020-03-11",
        "2020-02-30",
        "2020-03-11T09:00:00.000Z",
        "2020-03-11x09",
        "1,2",
        "-1.5 , .5",
        "١,٢",
        "http://a.b/c.PNG",
    ]
)
NUMBERS = (
    st.integers(-3, 3)
    | st.floats(-3, 3)
    | st.decimals(-3, 3, places=1)
    | st.sampled_from(
        [2**53, 2**53 + 1, -(2**63), 0.1, 0.3, Decimal("0.30"), Decimal("0.1000000000000000000001"), 1e300]
    )
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | TEXTS, inner, max_size=3),
    max_leaves=6,
)
BOUNDS = st.integers(-3, 3) | st.sampled_from([0.1, 0.3, 2**53, 1e300])
LENGTHS = st.integers(0, 4)
LISTED = st.lists(st.none() | st.booleans() | BOUNDS | TEXTS | st.just([]), max_size=4)
WILD_DEFINITIONS = st.fixed_dictionaries(
    {"type": st.sampled_from((*TYPES, "a type of the future"))},
    optional={
        "array": st.booleans(),
        "optional": st.booleans(),
        "deleted": st.booleans(),
        "objectType": st.sampled_from([None, "Place", "nobody's"]),
        "eq": LISTED,
        "ne": LISTED,
        "lt": BOUNDS,
        "lte": BOUNDS,
        "gt": BOUNDS,
        "gte": BOUNDS,
        "minLength": LENGTHS,
        "max_length": LENGTHS,
        "exactLength": LENGTHS,
    },
)
WILD_SCHEMAS = schemas(WILD_DEFINITIONS, st.booleans())


@settings(max_examples=150)
@given(schema=WILD_SCHEMAS, place=WILD_SCHEMAS, metadata=metadatas(VALUES), creating=st.booleans())
def test_nothing_is_refused_that_the_server_accepts(
    judge: Judge, schema: Schema, place: Schema, metadata: list[Metadata], creating: bool
) -> None:
    for sent, servers, ours in judge(schema, place, metadata, creating=creating):
        assert ours is None or servers is not None, f"{sent!r} is good, but refused: {ours}"


# Definitions that an administrator can make, and values about which the documentation leaves no doubt

PLAIN_VALUES = st.sampled_from(
    ["", "a", "ab", "abc", "true", "12", "today", "31.01.2020", "2020-03-11", "north", "1.5, -2", "http://a.b/c.png"]
) | st.sampled_from([-1, 0, 1, 2, 2.5, 0.1, Decimal("0.1"), Decimal("2.5"), True, False])
OBJECTS = st.fixed_dictionaries({}, optional={"floor": PLAIN_VALUES, "name": PLAIN_VALUES})
CLEAR_VALUES = PLAIN_VALUES | OBJECTS | st.lists(PLAIN_VALUES | OBJECTS, max_size=2)
SOME_TEXTS = st.lists(st.sampled_from(["a", "ab", "abc"]), min_size=1, unique=True)
SOME_NUMBERS = st.lists(st.sampled_from([0, 1, 2.5, 0.1]), min_size=1, unique=True)
A_NUMBER = st.sampled_from([0, 1, 2.5, 0.1])
CONSTRAINTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "string": {"eq": SOME_TEXTS, "ne": SOME_TEXTS} | dict.fromkeys(("minLength", "maxLength", "exactLength"), LENGTHS),
    "number": {"eq": SOME_NUMBERS, "ne": SOME_NUMBERS} | dict.fromkeys(("lt", "lte", "gt", "gte"), A_NUMBER),
    "object": {"objectType": st.sampled_from([None, "Place"])},
}


def _definition(type_name: str) -> st.SearchStrategy[Any]:
    flags = {"type": st.just(type_name), "array": st.booleans(), "optional": st.booleans()}
    return st.fixed_dictionaries(flags, optional=CONSTRAINTS.get(type_name, {}))


PLACE = {
    "properties": {
        "floor": {"type": "number", "array": False, "optional": False, "lte": 2},
        "name": {"type": "string", "array": False, "optional": True, "eq": ["a", "ab"]},
    },
}


@settings(max_examples=150)
@given(
    schema=schemas(st.sampled_from(TYPES).flatmap(_definition), st.booleans()),
    metadata=metadatas(CLEAR_VALUES),
)
def test_by_the_documented_rules_both_refuse_the_same_in_the_same_words(
    judge: Judge, schema: Schema, metadata: list[Metadata]
) -> None:
    for sent, servers, ours in judge(schema, PLACE, metadata, creating=False):
        assert ours == servers, f"{sent!r}"
