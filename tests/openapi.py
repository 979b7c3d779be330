"""
The contract as a judge: of requests that were sent, of answers that were given, and as a source of answers to read.

The contract is what the vendor's API description says, as facts (``local_voucherify/contract.json``, made by
``make_contract.py``). Answers to read are made from its schemas, since the vendor's examples are not part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from itertools import cycle, islice
from typing import Any, NoReturn
from urllib.parse import parse_qs, parse_qsl
from zlib import crc32

import jsonschema

from airflow_provider_voucherify.local_voucherify import Received
from airflow_provider_voucherify.local_voucherify.contract import contract

_JSON, _FORM, _MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_REPORTS = "/v1/reports/"
_EXPORTS = "/v1/exports/"

_REMOVED = re.compile(r"PUT /v1/customers/[^/]+/consents")
"""What the contract does not have, since the vendor has removed it."""


def assert_valid_requests(requests: Iterable[Received]) -> None:
    """
    Check requests that a local Voucherify received; meant for the teardown of a fixture that keeps bodies.

    Reports and the files of exports are downloaded from addresses that no contract has, and are passed over, as are
    requests to endpoints that the vendor has removed. So is a body that was not kept.
    """
    for request in requests:
        if _is_file(request) or _REMOVED.fullmatch(f"{request.method} {request.path}"):
            continue
        if request.body is not None or request.method == "GET":
            assert_valid_request(request.method, request.path, request.body or b"", query=request.query)


def _is_file(request: Received) -> bool:
    return request.path.startswith(_REPORTS) or (request.path.startswith(_EXPORTS) and "token=" in request.query)


def assert_valid_request(
    method: str, path: str, body: bytes, *, query: str = "", allow_undocumented: bool = False
) -> None:
    """
    Check one request against the contract of its endpoint.

    Of a body's records only those of a new shape (names and types of all members) are put to the schema, which says
    nothing about values but the form of dates: so a body of a hundred thousand records is checked in a second. The
    words of an export are checked each time.

    :param path: without the query, as it was requested.
    :param allow_undocumented: permit members that the contract does not name; it does not forbid them, but a
        misspelled field would pass unseen.
    """
    operation = _Operation.of(method, path)
    operation.check_query(query)
    operation.check_body(body, allow_undocumented)


def assert_fits_answer(method: str, path: str, status: int, answer: Any) -> None:
    """
    Check an answer of an endpoint.

    :param path: with or without names in braces.
    """
    _validator(_Operation.of(method, path).answer(status)).validate(_as_answered(answer))


def assert_fits(definition: str, value: Any) -> None:
    """Check JSON against one of the contract's definitions."""
    _validator(contract()["definitions"][definition]).validate(_as_answered(value))


def answers(method: str, path: str, status: int) -> list[Any]:
    """
    Return answers of an endpoint that are made from its schema.

    Each has every member; together they have every word that a member may be and each of its alternatives.
    """
    return _samples(_Operation.of(method, path).answer(status))


class _Operation:
    """One call of the contract."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._query = facts.get("query", {})
        self._answers = facts["answers"]
        self._known_shapes: set[Any] = set()
        body = facts.get("body", {})
        self._content_type = body.get("type")
        self._schema: dict[str, Any] = body.get("schema", {})

    @staticmethod
    def of(method: str, path: str) -> _Operation:
        """Return the operation that a request is for."""
        operations = _operations()
        if (method, path) in operations:
            return operations[method, path]
        for (documented_method, template), operation in operations.items():
            pattern = "[^/]+".join(map(re.escape, re.split(r"\{[^}]*\}", template)))
            if method == documented_method and re.fullmatch(pattern, path):
                return operation
        raise AssertionError(f"the contract has no {method} {path}")

    def answer(self, status: int) -> dict[str, Any]:
        """Return the schema of an answer."""
        schema: dict[str, Any] = self._answers[str(status)]
        return schema

    def check_query(self, query: str) -> None:
        schemas = {name: _resolved(schema) for name, schema in self._query.items()}
        for name, text in parse_qsl(query, keep_blank_values=True):
            schema = schemas.get(name)
            deep, _, member = name.removesuffix("]").partition("[")
            if schema is None and schemas.get(deep, {}).get("type") == "object":
                properties = schemas[deep].get("properties")
                schema = {} if properties is None else properties.get(member.partition("][")[0])
            assert schema is not None, f"the query parameter {name} is not documented"
            if schema.get("type") == "array":
                schema = schema["items"]
            value: Any = int(text) if text.isdecimal() and schema.get("type") == "integer" else text
            if schema.get("type") == "boolean":
                value = {"true": True, "false": False}.get(text, text)
            if name != deep and schema.get("type", "object") == "object":
                continue
            _validator(schema).validate(value)

    def check_body(self, body: bytes, allow_undocumented: bool) -> None:
        if self._content_type is None:
            assert not body, "the contract has no body here"
        elif self._content_type == _FORM:
            form = {name: " ".join(values) for name, values in parse_qs(body.decode()).items()}
            _validator(self._schema).validate(form)
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
        if shape in self._known_shapes and "exported_object" not in content:
            return
        _validator(self._schema).validate(content)
        if not allow_undocumented:
            for record in content if isinstance(content, list) else [content]:
                assert not (extra := set(record) - self._documented_members()), f"{extra} is not documented"
        self._known_shapes.add(shape)

    def _documented_members(self) -> set[str]:
        schema = _resolved(self._schema)
        return self._members(schema.get("items", schema))

    def _members(self, schema: dict[str, Any]) -> set[str]:
        schema = _resolved(schema)
        parts = [part for kind in ("allOf", "anyOf") for part in schema.get(kind, ())]
        return set(schema.get("properties", {})).union(*map(self._members, parts))


def _as_described(record: Any) -> Any:
    """
    Leave null members of an address out of a record of a bulk update.

    The contract does not allow them, but the vendor's test of the live API sends them and reads them back
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
    raise AssertionError(f"{name} is not JSON")


@cache
def _operations() -> dict[tuple[str, str], _Operation]:
    named = {tuple(name.split()): _Operation(facts) for name, facts in contract()["operations"].items()}
    return {(method, path): operation for (method, path), operation in named.items()}


def _validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Return what judges by a part of the contract, which is a view into the cached one and so stays the same."""
    if id(schema) not in _validators:
        _validators[id(schema)] = jsonschema.Draft202012Validator(
            {**schema, "definitions": contract()["definitions"]},
            format_checker=jsonschema.FormatChecker(formats=["date"]),
        )
    return _validators[id(schema)]


_validators: dict[int, jsonschema.Draft202012Validator] = {}


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = contract()["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def _as_answered(node: Any) -> Any:
    """
    Leave out a voucher's ``updated_at`` of null, which the vendor's own examples have and its schema has not.

    So it is with the ``user_id`` of an export that nobody created in the dashboard, which its schema requires at first.
    """
    if isinstance(node, list):
        return [_as_answered(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("object") == "export" and node.get("user_id", "") is None:
        node = {**node, "user_id": ""}
    is_voucher = node.get("object") == "voucher" and node.get("updated_at", "") is None
    return {name: _as_answered(value) for name, value in node.items() if not is_voucher or name != "updated_at"}


def _samples(schema: dict[str, Any], name: str = "value") -> list[Any]:
    """
    Return values that fit a schema.

    :param name: of the member that they are for; texts say it, so that a value in the wrong place is seen.
    """
    schema = _resolved(schema)
    if combined := [*schema.get("allOf", ()), *([{"anyOf": schema["anyOf"]}] if "anyOf" in schema else [])]:
        rest = {key: value for key, value in schema.items() if key not in ("allOf", "anyOf")}
        parts = [*combined, *([rest] if "properties" in rest else [])]
        if len(parts) > 1 or "allOf" in schema:
            return _joined([_samples(part, name) for part in parts])
        return [value for part in schema["anyOf"] for value in _samples(part, name)]
    kind, *null = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    nulls = [None] if null else []
    if "enum" in schema:
        return list(schema["enum"])
    match kind:
        case "object" | None:
            return [*_sample_objects(schema, name), *nulls]
        case "array":
            return [_samples(schema["items"], name), [], *nulls]
        case "boolean":
            return [True, False, *nulls]
        case "integer" | "number":
            return [_number_of(name), *nulls]
        case "null":
            return [None]
    moment = f"2024-02-{1 + _number_of(name) % 29:02}"
    texts = {"date": moment, "date-time": f"{moment}T12:30:00.000Z", "time": "12:30"}
    return [texts.get(schema.get("format", ""), f"some_{name}"), *nulls]


def _number_of(name: str) -> int:
    """Return a number from 1 to 90 that tells a member from others."""
    return 1 + crc32(name.encode()) % 90


def _sample_objects(schema: dict[str, Any], name: str) -> list[Any]:
    if "properties" not in schema:
        values = _samples(schema.get("additionalProperties") or {"type": "integer"}, name)
        return [{f"some_{name}_{number}": value for number, value in enumerate(values)}]
    return _joined([[{key: value} for value in _samples(member, key)] for key, member in schema["properties"].items()])


def _joined(parts: list[list[Any]]) -> list[Any]:
    """Join the first object of each list to one, then the second of each, and so on; shorter lists begin again."""
    if words := [values for values in parts if not isinstance(values[0], dict)]:
        return words[0]
    rows = zip(*(islice(cycle(values), max(map(len, parts))) for values in parts), strict=True)
    return [{name: value for one in row for name, value in one.items()} for row in rows]
