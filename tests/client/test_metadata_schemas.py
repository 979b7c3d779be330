"""Metadata schemas: what is asked for, and how tolerantly the answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Malformed
from airflow_provider_voucherify.models.errors import (
    VoucherifyNotFoundError,
    VoucherifyPermissionError,
    VoucherifyUnexpectedAnswerError,
)

Connect = Callable[..., Any]

CHANNEL = {"type": "string", "array": False, "optional": False, "eq": ["Web", "Shop"]}


@pytest.mark.parametrize(
    ("resource", "name"), [("customers", "customer"), ("products", "product"), ("vouchers", "voucher")]
)
def test_a_resource_s_schema_is_asked_for_by_the_name_that_the_api_gives_it(
    server: LocalVoucherify, connect_to: Connect, resource: str, name: str
) -> None:
    server.set_metadata_schema(resource, {"properties": {"channel": CHANNEL}, "allow_defined_only": True})

    schema = connect_to(server).get_metadata_schema(resource)

    assert server.requests("GET", f"/v1/metadata-schemas/{name}")
    assert (schema.related_object, schema.allow_defined_only) == (name, True)
    assert schema.properties["channel"].model_dump(exclude_none=True) == CHANNEL


def test_a_custom_schema_is_asked_for_by_its_own_name(server: LocalVoucherify, connect_to: Connect) -> None:
    server.set_metadata_schema("Adres domowy ż?", {"properties": {}})

    schema = connect_to(server).get_metadata_schema("Adres domowy ż?")

    assert schema.related_object == "Adres domowy ż?"
    assert calls.get_metadata_schema("a/b").path == "/v1/metadata-schemas/a%2Fb"


def test_all_schemas_are_listed(server: LocalVoucherify, connect_to: Connect) -> None:
    home = {"type": "object", "objectType": "Place"}
    old = {"type": "object", "objectType": "Flat", "deleted": True}
    server.set_metadata_schema("customers", {"properties": {"home": home, "old": old}})
    server.set_metadata_schema("Place", {"properties": {"floor": {"type": "number"}}})
    client = connect_to(server)

    listed = client.list_metadata_schemas().schemas

    assert listed == [client.get_metadata_schema("customers"), client.get_metadata_schema("Place")]
    assert listed[0].object_types == {"Place"}


def test_a_project_without_the_schema_answers_404(server: LocalVoucherify, connect_to: Connect) -> None:
    with pytest.raises(VoucherifyNotFoundError, match="Cannot find metadata schema with id voucher"):
        connect_to(server).get_metadata_schema("vouchers")


def test_a_token_without_the_scope_is_refused(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server, auth_method="oauth", scope="customers")

    with pytest.raises(VoucherifyPermissionError):
        client.get_metadata_schema("customers")


def test_both_spellings_of_the_vendor_are_read() -> None:
    v1 = {"type": "string", "minLength": 1, "maxLength": 5, "exactLength": 3, "objectType": None}
    management = {"type": "string", "min_length": 1, "max_length": 5, "exact_length": 3, "object_type": None}
    parse = calls.get_metadata_schema("customers").parse

    assert parse({"properties": {"a": v1}}) == parse({"properties": {"a": management}})
    assert parse({"properties": {"a": v1}}).properties["a"].max_length == 5


def test_what_is_strange_in_an_answer_is_no_rule() -> None:
    strange = {
        "type": "a type of the future",
        "array": "yes",
        "optional": 0,
        "objectType": 7,
        "eq": "x",
        "lt": "5",
        "gte": True,
        "maxLength": -1,
        "minLength": 2.5,
        "colour": "red",
    }
    answer = {"properties": {"a": strange, "b": None, "c": []}, "allow_defined_only": None, "new": {}}

    schema = calls.get_metadata_schema("customers").parse(answer)

    assert schema.properties["a"].model_dump(exclude_none=True) == {"type": "a type of the future"}
    assert schema.properties.keys() == {"a", "b", "c"}
    assert schema.properties["b"] == schema.properties["c"]
    assert (schema.id, schema.related_object, schema.allow_defined_only) == (None, None, None)


@pytest.mark.parametrize("body", [{}, [], {"properties": None}, {"properties": [1]}], ids=str)
def test_an_answer_without_definitions_is_no_schema(server: LocalVoucherify, connect_to: Connect, body: Any) -> None:
    server.set_metadata_schema("customers", {"properties": {}})
    server.misbehave("/v1/metadata-schemas", Malformed(json.dumps(body).encode()))

    with pytest.raises(VoucherifyUnexpectedAnswerError, match="the answer is not a valid MetadataSchema"):
        connect_to(server).get_metadata_schema("customers")


@pytest.mark.parametrize("name", ["schemas", "data"])
def test_a_list_is_read_under_either_documented_name_and_without_what_is_no_schema(name: str) -> None:
    answer = {"object": "list", "data_ref": name, name: [{"related_object": "customer", "properties": {}}, None, {}]}

    listed = calls.list_metadata_schemas().parse(answer).schemas

    assert [schema.related_object for schema in listed] == ["customer"]


@pytest.mark.parametrize("body", [{}, [], {"schemas": None}], ids=str)
def test_an_answer_without_a_list_is_unexpected(body: Any) -> None:
    with pytest.raises(VoucherifyUnexpectedAnswerError, match="the answer is not a valid MetadataSchemaList"):
        calls.list_metadata_schemas().parse(body)
