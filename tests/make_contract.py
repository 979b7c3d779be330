"""
Makes the contract: what the vendor's API description says of the calls that this project speaks, as facts.

``python tests/make_contract.py FOLDER`` reads the OpenAPI files of a folder (the ``documentation/openapi`` of the
vendor's repository voucherify-openapi, its files also as ``docs-*.json``) and writes the stand-in's ``contract.json``;
with ``--check`` it only says whether that file is up to date.

Facts are paths, methods, query parameters, types, required members, words allowed, bounds, formats, scopes and status
codes. Sentences and examples stay with the vendor, except for one number that only an example has, the largest body.

Exports of products and SKUs are in that description as text alone, and in the vendor's Python SDK as words of lists
that are the same for all objects. Facts from there have the member ``x-source``; ``add_facts_of_the_sdk`` has them.
"""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

CONTRACT = Path(__file__).resolve().parents[1] / "airflow_provider_voucherify" / "local_voucherify" / "contract.json"
WIDTH = 120

OPERATIONS = (
    "GET /v1/async-actions",
    "GET /v1/async-actions/{asyncActionId}",
    "GET /v1/customers",
    "POST /v1/customers",
    "POST /v1/customers/bulk/async",
    "POST /v1/customers/importCSV",
    "POST /v1/customers/metadata/async",
    "DELETE /v1/customers/{customerId}",
    "GET /v1/customers/{customerId}",
    "PUT /v1/customers/{customerId}",
    "GET /v1/customers/{customerId}/activities",
    "GET /v1/customers/{customerId}/activity",
    "POST /v1/customers/{customerId}/permanent-deletion",
    "GET /v1/customers/{customerId}/redeemables",
    "GET /v1/customers/{customerId}/segments",
    "GET /v1/exports",
    "POST /v1/exports",
    "DELETE /v1/exports/{exportId}",
    "GET /v1/exports/{exportId}",
    "GET /v1/metadata-schemas",
    "GET /v1/metadata-schemas/{resource}",
    "POST /v1/oauth/introspect",
    "POST /v1/oauth/token",
    "POST /v1/oauth/token/revoke",
    "GET /v1/products",
    "POST /v1/products",
    "POST /v1/products/bulk/async",
    "POST /v1/products/importCSV",
    "POST /v1/products/metadata/async",
    "DELETE /v1/products/{productId}",
    "GET /v1/products/{productId}",
    "PUT /v1/products/{productId}",
    "POST /v1/skus/importCSV",
    "GET /v1/vouchers",
    "POST /v1/vouchers/bulk/async",
    "POST /v1/vouchers/metadata/async",
    "DELETE /v1/vouchers/{code}",
    "GET /v1/vouchers/{code}",
    "POST /v1/vouchers/{code}",
    "PUT /v1/vouchers/{code}",
)
"""The calls of the client, which are also what the stand-in serves."""

OPAQUE = {"CustomerActivityData"}
"""Kept as "anything": the data of a customer's activities has some 190 schemas, and nothing here looks into it."""

SDK = "voucherify-6.1.1"
"""The vendor's Python SDK (PyPI, October 2026)."""

_OF_PRODUCTS = ("id", "name", "price", "image_url", "source_id", "attributes", "created_at", "updated_at", "metadata")
_OF_SKUS = ("id", "sku", "product_id", "currency", *_OF_PRODUCTS[2:])
SDK_EXPORTS = {
    "product": (_OF_PRODUCTS, ("id", "name", "source_id", "created_at", "updated_at")),
    "sku": (_OF_SKUS, ("id", "sku", "product_id", "source_id", "created_at", "updated_at")),
}
"""Fields and orders of exports. The SDK has all these words, but does not say which object they are for."""

_KEPT = frozenset((
    "enum", "format", "maximum", "maxItems", "maxLength", "minimum", "minItems", "minLength", "pattern", "type",
    "x-source",
))  # fmt: skip
_COMBINED = {"allOf": "allOf", "anyOf": "anyOf", "oneOf": "anyOf"}
"""Of the vendor's alternatives several may fit (a voucher's body that has metadata alone), so they are no ``oneOf``."""

_LARGEST_BODY = re.compile(r"length greater than maximum allowed: (\d+)")


class Description:
    """The vendor's files, read as one description."""

    def __init__(self, folder: Path) -> None:
        self.paths: dict[str, Any] = {}
        self._parts: dict[str, dict[str, Any]] = {}
        self.versions: set[str] = set()
        for file in sorted(folder.glob("*.json")):
            document = json.loads(file.read_text(encoding="utf-8"))
            if not any(operation.split()[1] in document.get("paths", ()) for operation in OPERATIONS):
                continue
            self.versions.add(document["info"]["version"])
            self.paths |= document["paths"]
            for kind, named in document["components"].items():
                known = self._parts.setdefault(kind, {})
                if differing := [name for name in named if known.get(name, named[name]) != named[name]]:
                    raise SystemExit(f"{file}: other files have other {kind} of the names {differing}")
                known |= named

    def contract(self) -> dict[str, Any]:
        """Return the facts."""
        add_facts_of_the_sdk(self._parts["schemas"])
        if missing := [name for name in OPERATIONS if self._operation(name) is None]:
            raise SystemExit(f"the description has no {', '.join(missing)}")
        operations = {name: self._facts_of_operation(self._operation(name)) for name in sorted(OPERATIONS)}
        definitions: dict[str, Any] = {}
        wanted = set(_referred(operations))
        while wanted:
            name = wanted.pop()
            definitions[name] = {} if name in OPAQUE else facts_of_schema(self._parts["schemas"][name])
            wanted |= set(_referred(definitions[name])) - definitions.keys()
        return {
            "api_version": " ".join(sorted(self.versions)),
            "operations": operations,
            "definitions": dict(sorted(definitions.items())),
        }

    def _operation(self, name: str) -> Any:
        method, path = name.split()
        return self.paths.get(path, {}).get(method.lower())

    def _facts_of_operation(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        scopes = {scope for one in operation["security"] for scopes in one.values() for scope in scopes}
        facts: dict[str, Any] = {"scopes": sorted(scopes)}
        parameters = [self._resolved(parameter) for parameter in operation.get("parameters", ())]
        if query := {p["name"]: facts_of_schema(p["schema"]) for p in parameters if p["in"] == "query"}:
            facts["query"] = dict(sorted(query.items()))
        if "requestBody" in operation:
            ((content_type, content),) = operation["requestBody"]["content"].items()
            facts["body"] = {"type": content_type, "schema": facts_of_schema(content["schema"])}
        if largest := _LARGEST_BODY.search(json.dumps(operation["responses"].get("413"))):
            facts["body"]["max_bytes"] = int(largest[1])
        facts["answers"] = {
            status: facts_of_schema(answer["content"]["application/json"]["schema"]) if answer.get("content") else None
            for status, answer in sorted(operation["responses"].items())
        }
        return facts

    def _resolved(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in part:
            kind, name = part["$ref"].split("/")[-2:]
            part = self._parts[kind][name]
        return part


def add_facts_of_the_sdk(schemas: dict[str, Any]) -> None:
    """Add exports of products and SKUs, and single metadata properties as fields, to the description's schemas."""
    if "ExportsCreateRequestBody" not in schemas:
        return
    for fields in [schemas[name] for name in schemas if re.fullmatch("Export[A-Z][A-Za-z]+Fields", name)]:
        _allow_single_properties(fields)
    for exported_object, (fields, orders) in SDK_EXPORTS.items():
        name = f"Export{exported_object.capitalize()}"
        word = {"type": "string", "x-source": SDK}
        schemas[f"{name}Fields"] = {**word, "enum": list(fields)}
        _allow_single_properties(schemas[f"{name}Fields"])
        schemas[f"{name}Order"] = {**word, "enum": [sign + order for order in orders for sign in ("", "-")]}
        schemas[f"{name}Filters"] = {
            "type": "object",
            "properties": {"junction": _reference("Junction")},
            "additionalProperties": _reference("FieldConditions"),
            "x-source": SDK,
        }
        parameters = {
            "order": _reference(f"{name}Order"),
            "fields": {"type": "array", "items": _reference(f"{name}Fields")},
            "filters": _reference(f"{name}Filters"),
        }
        schemas[f"{name}Base"] = {
            "type": "object",
            "properties": {
                "exported_object": {"type": "string", "enum": [exported_object]},
                "parameters": {"type": "object", "properties": parameters},
            },
            "required": ["exported_object"],
            "x-source": SDK,
        }
        schemas["ExportsCreateRequestBody"]["oneOf"].append(_reference(f"{name}Base"))
        for kind, whole in (("Scheduled", "ExportsCreateResponseBody"), ("", "ExportsGetResponseBody"), ("", "Export")):
            both = [_reference(f"Export{kind}Base"), _reference(f"{name}Base")]
            schemas[name + kind] = {"type": "object", "allOf": both}
            schemas[whole]["oneOf"].append(_reference(name + kind))


def _allow_single_properties(fields: dict[str, Any]) -> None:
    """Let ``metadata.x``, one property, be a field where ``metadata``, all of them, is."""
    if "metadata" in fields["enum"]:
        words = dict(fields)
        fields.clear()
        fields["anyOf"] = [words, {"type": "string", "pattern": r"^metadata\..", "x-source": SDK}]


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def facts_of_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI 3.0 schema as a JSON Schema of facts, with references into the contract's definitions."""
    facts: dict[str, Any] = {name: schema[name] for name in schema if name in _KEPT}
    if "$ref" in schema:
        facts["$ref"] = "#/definitions/" + schema["$ref"].rpartition("/")[2]
    if "properties" in schema:
        facts["properties"] = {name: facts_of_schema(member) for name, member in sorted(schema["properties"].items())}
    if "required" in schema and schema.get("type", "object") == "object":
        facts["required"] = sorted(schema["required"])
    for name in ("items", "additionalProperties"):
        if name in schema:
            facts[name] = facts_of_schema(schema[name]) if isinstance(schema[name], dict) else schema[name]
    for name, ours in _COMBINED.items():
        if parts := [part for part in map(facts_of_schema, schema.get(name, ())) if part]:
            facts[ours] = parts
    if "enum" in facts:
        facts["enum"] = sorted(facts["enum"])
    return _or_null(facts) if schema.get("nullable") is True else dict(sorted(facts.items()))


def _or_null(facts: dict[str, Any]) -> dict[str, Any]:
    if "type" not in facts or facts.keys() & {"$ref", "allOf", "anyOf"}:
        return {"anyOf": [{"type": "null"}, facts]}
    nullable = {"type": [facts["type"], "null"]} | ({"enum": [*facts["enum"], None]} if "enum" in facts else {})
    return dict(sorted((facts | nullable).items()))


def _referred(node: Any) -> Iterator[str]:
    """Give the names of the definitions that a part of the contract refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _referred(part)


def written(node: Any, indent: int = 0, ahead: int = 0) -> str:
    """
    Return JSON that is short and still shows a change as a changed line: what fits into a line has one.

    :param ahead: characters that stand before it in its line, beside the indentation.
    """
    line = json.dumps(node, ensure_ascii=False)
    if indent + ahead + len(line) < WIDTH or not isinstance(node, dict | list) or not node:
        return line
    inner, outer = " " * (indent + 1), " " * indent
    if isinstance(node, list):
        return "[\n" + ",\n".join(inner + written(one, indent + 1) for one in node) + f"\n{outer}]"
    members = (f"{json.dumps(name)}: " for name in node)
    texts = [key + written(value, indent + 1, len(key)) for key, value in zip(members, node.values(), strict=True)]
    return "{\n" + ",\n".join(inner + text for text in texts) + f"\n{outer}}}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the contract, or compare it."""
    parser = ArgumentParser(description="Makes the contract from the vendor's OpenAPI files.")
    parser.add_argument("folder", type=Path, help="folder with the OpenAPI files")
    parser.add_argument("--check", action="store_true", help="only say whether the contract is up to date")
    given = parser.parse_args(arguments)
    text = written(Description(given.folder).contract()) + "\n"
    if not given.check:
        CONTRACT.write_text(text, encoding="utf-8")
    elif text != CONTRACT.read_text(encoding="utf-8"):
        sys.exit(f"{CONTRACT} is not what {given.folder} gives")


if __name__ == "__main__":
    main()
