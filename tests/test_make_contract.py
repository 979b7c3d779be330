"""The script that makes the contract: facts come through, sentences and examples do not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_contract
import pytest
from make_contract import (
    CONTRACT,
    OPERATIONS,
    SDK,
    SDK_EXPORTS,
    Description,
    add_facts_of_the_sdk,
    facts_of_schema,
    written,
)

from airflow_provider_voucherify.local_voucherify.contract import contract

SECURITY = [{"X-App-Id": []}, {"X-Voucherify-OAuth": ["things", "api"]}]
TEXT = {"title": "A title", "description": "Some sentence.", "example": "An example"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a description in which every call is the same."""
    schema = TEXT | {"type": "object", "properties": {"description": TEXT | {"type": "string"}}, "nullable": True}
    too_large = {"x": {"value": {"message": "Payload content length greater than maximum allowed: 4096"}}}
    operation = {
        "summary": "Sum",
        "security": SECURITY,
        "parameters": [{"$ref": "#/components/parameters/limit"}, {"in": "path", "name": "id", "schema": {}}],
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
        "responses": {
            "413": {
                "description": "No.",
                "content": {"application/json": {"schema": {}, "examples": too_large}},
            },
            "204": {"description": "Done."},
        },
    }
    paths: dict[str, Any] = {}
    for name in OPERATIONS:
        method, path = name.split()
        paths.setdefault(path, {})[method.lower()] = operation
    limit = TEXT | {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100, "default": 10}}
    components = {"schemas": {"Thing": schema, "Unused": {}}, "parameters": {"limit": limit}}
    document = {"info": {"version": "v1"}, "paths": paths, "components": components}
    (tmp_path / "docs-things.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def test_facts_come_through_and_sentences_do_not(folder: Path) -> None:
    made = Description(folder).contract()

    assert made["api_version"] == "v1"
    assert made["definitions"] == {
        "Thing": {"properties": {"description": {"type": "string"}}, "type": ["object", "null"]}
    }
    assert list(made["operations"]) == sorted(OPERATIONS)
    assert made["operations"]["POST /v1/customers"] == {
        "scopes": ["api", "things"],
        "query": {"limit": {"maximum": 100, "type": "integer"}},
        "body": {"type": "application/json", "schema": {"$ref": "#/definitions/Thing"}, "max_bytes": 4096},
        "answers": {"204": None, "413": {}},
    }


def test_a_call_that_the_description_lacks_is_an_error(folder: Path) -> None:
    text = (folder / "docs-things.json").read_text(encoding="utf-8")
    (folder / "docs-things.json").write_text(text.replace("/v1/skus/importCSV", "/v1/skus/import"), encoding="utf-8")

    with pytest.raises(SystemExit, match="has no POST /v1/skus/importCSV"):
        Description(folder).contract()


def test_a_check_tells_whether_the_contract_is_up_to_date(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(make_contract, "CONTRACT", tmp_path / "contract.txt")
    (tmp_path / "contract.txt").write_text("{}", encoding="utf-8")

    with pytest.raises(SystemExit, match="is not what"):
        make_contract.main([str(folder), "--check"])
    assert (tmp_path / "contract.txt").read_text(encoding="utf-8") == "{}"

    make_contract.main([str(folder)])
    make_contract.main([str(folder), "--check"])


ENUM = {"type": "string", "enum": ["b", "a"], "nullable": True}
REFERENCE = {"allOf": [{"$ref": "#/components/schemas/Thing"}], "nullable": True}


@pytest.mark.parametrize(
    ("schema", "facts"),
    [
        (ENUM, {"type": ["string", "null"], "enum": ["a", "b", None]}),
        (REFERENCE, {"anyOf": [{"type": "null"}, {"allOf": [{"$ref": "#/definitions/Thing"}]}]}),
        ({"oneOf": [{"type": "string"}, {"title": "T"}]}, {"anyOf": [{"type": "string"}]}),
        ({"type": "string", "required": ["x"]}, {"type": "string"}),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
    ],
    ids=["null among words", "null or a definition", "alternatives", "required of a string", "no other members"],
)
def test_openapi_is_said_in_the_words_of_json_schema(schema: dict[str, Any], facts: dict[str, Any]) -> None:
    assert facts_of_schema(schema) == facts


def test_the_contract_is_as_the_script_writes_it() -> None:
    text = CONTRACT.read_text(encoding="utf-8")

    assert written(json.loads(text)) + "\n" == text
    assert max(map(len, text.splitlines())) <= 120


def test_the_contract_has_no_sentences() -> None:
    texts = {text for text in _texts(contract()) if " " in text and not re.fullmatch(r"[A-Z]+ (/[\w{}-]+)+", text)}

    assert texts == set()


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for part in [*node, *node.values()] if isinstance(node, dict) else node:
            yield from _texts(part)


def test_facts_of_the_sdk_are_marked() -> None:
    words = {"type": "string", "enum": ["id", "metadata"]}
    alternatives = ("ExportsCreateRequestBody", "ExportsCreateResponseBody", "ExportsGetResponseBody", "Export")
    schemas: dict[str, Any] = {name: {"oneOf": []} for name in alternatives} | {"ExportOrderFields": words}

    add_facts_of_the_sdk(schemas)

    described, single = schemas["ExportOrderFields"]["anyOf"]
    assert described == {"type": "string", "enum": ["id", "metadata"]}
    assert single["x-source"] == SDK
    assert {len(schemas[name]["oneOf"]) for name in alternatives} == {len(SDK_EXPORTS)}
    for name in ("Product", "Sku"):
        assert schemas[f"Export{name}Base"]["x-source"] == schemas[f"Export{name}Order"]["x-source"] == SDK


def test_only_exports_have_facts_of_the_sdk() -> None:
    marked = {name for name, facts in contract()["definitions"].items() if "x-source" in json.dumps(facts)}

    assert {name for name in marked if not name.startswith("Export")} == set()
    assert {name for name in marked if name.endswith("Base")} == {"ExportProductBase", "ExportSkuBase"}
