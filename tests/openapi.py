"""
The vendor's own API description, as a judge of what is sent and as a source of documented answers.

The description is no part of this repository: it is looked for beside it, in ``../shared/voucherify/openapi``. A test
that needs it skips visibly without it; a fixture that checks requests in passing asks ``openapi_available`` first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs, parse_qsl

import jsonschema
import pytest

from airflow_provider_voucherify.local_voucherify import Received

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "voucherify" / "openapi"
TAGS = ("async-actions", "customers", "metadata-schemas", "oauth", "products", "vouchers")

_JSON, _FORM, _MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_REPORTS = "/v1/reports/"

_REMOVED = re.compile(r"PUT /v1/customers/[^/]+/consents")
"""What the description does not have any more."""


def openapi_available() -> bool:
    """Say whether the vendor's description is at hand."""
    return FOLDER.is_dir()


needs_openapi = pytest.mark.skipif(not openapi_available(), reason=f"the vendor's API description is not at {FOLDER}")


def assert_valid_requests(requests: Iterable[Received]) -> None:
    """
    Check requests that a local Voucherify received; meant for the teardown of a fixture that keeps bodies.

    Reports are downloaded from addresses that no description has, and are passed over, as are requests to endpoints
    that the vendor has removed. So is a body that was not kept.
    """
    for request in requests:
        if request.path.startswith(_REPORTS) or _REMOVED.fullmatch(f"{request.method} {request.path}"):
            continue
        if request.body is not None or request.method == "GET":
            assert_valid_request(request.method, request.path, request.body or b"", query=request.query)


def assert_valid_request(
    method: str, path: str, body: bytes, *, query: str = "", allow_undocumented: bool = False
) -> None:
    """
    Check one request against the description of its endpoint.

    Of a body's records only those of a new shape (names and types of all members) are put to the schema, which says
    nothing about values but the form of dates: so a body of a hundred thousand records is checked in a second.

    :param path: without the query, as it was requested.
    :param allow_undocumented: permit members that the description does not name; it does not forbid them, but a
        misspelled field would pass unseen.
    """
    operation = _Operation.of(method, path)
    operation.check_query(query)
    operation.check_body(body, allow_undocumented)


def examples_of_answers(method: str, path: str, status: int) -> dict[str, Any]:
    """Return the documented example answers of an endpoint, by name."""
    operation = _Operation.of(method, path)
    return operation.examples(operation.description["responses"][str(status)]["content"][_JSON])


def examples_of_requests(method: str, path: str) -> dict[str, Any]:
    """Return the documented example bodies of an endpoint, by name."""
    operation = _Operation.of(method, path)
    (content,) = operation.description["requestBody"]["content"].values()
    return operation.examples(content)


def answer_schema(method: str, path: str, status: int) -> jsonschema.Draft202012Validator:
    """Return what judges an endpoint's answer."""
    operation = _Operation.of(method, path)
    schema = operation.description["responses"][str(status)]["content"][_JSON]["schema"]
    return _validator(operation.tag, schema)


class _Operation:
    """One method of one path of the description."""

    def __init__(self, tag: str, description: dict[str, Any]) -> None:
        self.tag = tag
        self.description = description
        self._known_shapes: set[Any] = set()
        content = description.get("requestBody", {}).get("content", {})
        self._content_type = next(iter(content), None)
        self._schema: dict[str, Any] = content[self._content_type]["schema"] if self._content_type else {}

    @staticmethod
    def of(method: str, path: str) -> _Operation:
        """Return the operation that a request is for."""
        if not openapi_available():
            pytest.skip(f"the vendor's API description is not at {FOLDER}")
        operations = _operations()
        if (method, path) in operations:
            return operations[method, path]
        for (documented_method, template), operation in operations.items():
            pattern = "[^/]+".join(map(re.escape, re.split(r"\{[^}]*\}", template)))
            if method == documented_method and re.fullmatch(pattern, path):
                return operation
        raise AssertionError(f"the vendor's description has no {method} {path}")

    def examples(self, content: dict[str, Any]) -> dict[str, Any]:
        return {name: _resolved(self.tag, one)["value"] for name, one in content.get("examples", {}).items()}

    def check_query(self, query: str) -> None:
        parameters = [_resolved(self.tag, parameter) for parameter in self.description.get("parameters", ())]
        schemas = {p["name"]: _resolved(self.tag, p["schema"]) for p in parameters if p["in"] == "query"}
        for name, text in parse_qsl(query, keep_blank_values=True):
            schema = schemas.get(name)
            deep, _, member = name.removesuffix("]").partition("[")
            if schema is None and schemas.get(deep, {}).get("type") == "object":
                properties = schemas[deep].get("properties")
                schema = {} if properties is None else properties.get(member.partition("][")[0])
            assert schema is not None, f"the query parameter {name} is not documented"
            if schema.get("type") == "array":
                schema = schema["items"]
            value = int(text) if text.isdecimal() and schema.get("type") == "integer" else text
            if name != deep and schema.get("type", "object") == "object":
                continue
            _validator(self.tag, schema).validate(value)

    def check_body(self, body: bytes, allow_undocumented: bool) -> None:
        if self._content_type is None:
            assert not body, "the description has no body here"
        elif self._content_type == _FORM:
            form = {name: " ".join(values) for name, values in parse_qs(body.decode()).items()}
            _validator(self.tag, self._schema).validate(form)
        elif self._content_type == _MULTIPART:
            assert re.search(rb'\r\nContent-Disposition: form-data; name="file"; filename="[^"\r\n]+"\r\n', body)
            assert body.startswith(b"--")
            assert body.endswith(b"--\r\n")
        else:
            content = json.loads(body, parse_constant=_no_constant)
            if isinstance(content, list):
                self._check(content[:1], allow_undocumented)
                for record in content:
                    self._check([record], allow_undocumented)
            else:
                self._check(content, allow_undocumented)

    def _check(self, content: Any, allow_undocumented: bool) -> None:
        content = [_as_described(one) for one in content] if isinstance(content, list) else content
        shape = _shape(content)
        if shape in self._known_shapes:
            return
        _validator(self.tag, self._schema).validate(content)
        if not allow_undocumented:
            for record in content if isinstance(content, list) else [content]:
                assert not (extra := set(record) - self._documented_members()), f"{extra} is not documented"
        self._known_shapes.add(shape)

    def _documented_members(self) -> set[str]:
        schema = _resolved(self.tag, self._schema)
        return self._members(schema.get("items", schema))

    def _members(self, schema: dict[str, Any]) -> set[str]:
        schema = _resolved(self.tag, schema)
        parts = [part for kind in ("allOf", "anyOf") for part in schema.get(kind, ())]
        return set(schema.get("properties", {})).union(*map(self._members, parts))


def _as_described(record: Any) -> Any:
    """
    Leave null members of an address out of a record of a bulk update.

    The description does not allow them, but the vendor's test of the live API sends them and reads them back
    (customers.spec.ts of the JavaScript SDK, 2023 to 2025).
    """
    if not isinstance(record, dict) or not isinstance(address := record.get("address"), dict):
        return record
    return record | {"address": {name: value for name, value in address.items() if value is not None}}


def _shape(value: Any) -> Any:
    """Return what a schema without rules for values can see of JSON."""
    if isinstance(value, dict):
        return frozenset((name, _shape(member)) for name, member in value.items())
    if isinstance(value, list):
        return ("list", frozenset(map(_shape, value)))
    if isinstance(value, str):
        return ("date", value[:10]) if _ISO_DATE.fullmatch(value) else "string"
    return type(value).__name__


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


@cache
def _description(tag: str) -> dict[str, Any]:
    text = (FOLDER / f"docs-{tag}.json").read_text(encoding="utf-8")
    converted: dict[str, Any] = _as_json_schema(json.loads(text))
    return converted


@cache
def _operations() -> dict[tuple[str, str], _Operation]:
    return {
        (method.upper(), path): _Operation(tag, description)
        for tag in TAGS
        for path, methods in _description(tag)["paths"].items()
        for method, description in methods.items()
        if method in ("get", "post", "put", "delete")
    }


def _validator(tag: str, schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Return what judges by a part of a description, which is a view into the cached one and so stays the same."""
    if id(schema) not in _validators:
        _validators[id(schema)] = _new_validator(tag, schema)
    return _validators[id(schema)]


_validators: dict[int, jsonschema.Draft202012Validator] = {}


def _new_validator(tag: str, schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    whole = {**schema, "components": _description(tag)["components"]}
    return jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker(formats=["date"]))


def _resolved(tag: str, schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        kind, name = schema["$ref"].split("/")[-2:]
        schema = _description(tag)["components"][kind][name]
    return schema


def _as_json_schema(node: Any) -> Any:
    """
    Say OpenAPI 3.0's ``nullable`` in the words of JSON Schema.

    ``oneOf`` becomes ``anyOf``: the vendor's alternatives (of vouchers) are not exclusive, a body of metadata fits all.
    """
    if isinstance(node, list):
        return [_as_json_schema(element) for element in node]
    if not isinstance(node, dict):
        return node
    converted = {
        "anyOf" if name == "oneOf" else name: _as_json_schema(value)
        for name, value in node.items()
        if name != "nullable"
    }
    return {"anyOf": [{"type": "null"}, converted]} if node.get("nullable") is True else converted
