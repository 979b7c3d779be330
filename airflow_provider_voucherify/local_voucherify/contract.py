"""
The contract: what the vendor's API description says of the calls that are served here, read from ``contract.json``.

That file has facts only, and ``tests/make_contract.py`` makes it. The client and the engine do not read it: they have
their own tables, so a fact that is wrong in one of the two shows as a difference instead of hiding on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

EVERY_SCOPE = "api"
"""The OAuth scope that permits every call."""


@dataclass(frozen=True, slots=True)
class Field:
    """
    A member of a body.

    :param type: ``string``, ``date`` (``YYYY-MM-DD``), ``integer``, ``boolean``, ``string_list``, ``object``; or
        ``any``, what is none of these.
    :param nullable: whether it may be null.
    :param fields: the members of an object, empty for a free one such as ``metadata``.
    """

    type: str
    nullable: bool = False
    fields: Mapping[str, Field] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One call.

    :param path: with names in braces, e.g. ``/v1/vouchers/{code}``.
    :param scope: the OAuth scope for it besides ``api``; None if only an API key is accepted.
    :param status: HTTP status of success.
    :param fields: the members of a JSON body, or of each record of a body that is an array.
    :param required: those that must be there.
    :param max_body_bytes: size of the largest body, None if none is given.
    """

    method: str
    path: str
    scope: str | None
    status: int
    fields: Mapping[str, Field]
    required: tuple[str, ...]
    max_body_bytes: int | None
    _query: Mapping[str, Any] = field(repr=False)

    def bounds(self, parameter: str) -> tuple[int, int]:
        """Return the least and the largest value of a query parameter."""
        schema = _resolved(self._query[parameter])
        return schema["minimum"], schema["maximum"]

    def choices(self, parameter: str) -> tuple[str, ...]:
        """Return the words that a query parameter may be."""
        return tuple(_resolved(self._query[parameter])["enum"])


@cache
def contract() -> Mapping[str, Any]:
    """Return the whole contract: ``operations`` by method and path, and the ``definitions`` that they refer to."""
    read: Mapping[str, Any] = json.loads(files(__package__).joinpath("contract.json").read_text(encoding="utf-8"))
    return read


@cache
def operation(method: str, path: str) -> Operation:
    """Return a call; raise ``KeyError`` for one that the description does not have."""
    facts = contract()["operations"][f"{method} {path}"]
    body = facts.get("body", {})
    record = _resolved(body.get("schema", {}))
    record = record.get("items", record)
    return Operation(
        method=method,
        path=path,
        scope=next((scope for scope in facts["scopes"] if scope != EVERY_SCOPE), None),
        status=next(int(status) for status in facts["answers"] if status.startswith("2")),
        fields=dict(_fields(record)),
        required=tuple(sorted(_required(record))),
        max_body_bytes=body.get("max_bytes"),
        _query=facts.get("query", {}),
    )


def words(definition: str, member: str) -> frozenset[str]:
    """Return the words that a string member of a definition may be."""
    return frozenset(contract()["definitions"][definition]["properties"][member]["enum"])


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = contract()["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def _fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, Field]]:
    """Give the members of a schema, those of all alternatives too."""
    schema = _resolved(schema)
    for part in (*schema.get("allOf", ()), *schema.get("anyOf", ())):
        yield from _fields(part)
    for name, member in schema.get("properties", {}).items():
        yield name, _field(_resolved(member))


def _required(schema: Mapping[str, Any]) -> set[str]:
    schema = _resolved(schema)
    return set(schema.get("required", ())).union(*map(_required, schema.get("allOf", ())))


def _field(schema: Mapping[str, Any]) -> Field:
    kind, nullable = schema.get("type", "any"), False
    if isinstance(kind, list):
        kind, nullable = next(one for one in kind if one != "null"), True
    if kind == "string" and schema.get("format") == "date":
        kind = "date"
    elif kind == "array":
        kind = "string_list" if _resolved(schema["items"]).get("type") == "string" else "any"
    elif kind not in ("string", "integer", "boolean", "object"):
        kind = "any"
    return Field(kind, nullable, dict(_fields(schema)) if kind == "object" else {})
