"""The house is as ``docs/architecture.md`` says: its rules, its sizes, and where things are."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from harness.process import ROOT

PACKAGE = ROOT / "airflow_provider_voucherify"
MAX_LINES = 400
MAX_PARAMETERS = {VoucherifyBulkUpdateOperator: 30, VoucherifyBulkMetadataOperator: 32}
"""Of an operator's own; those of all operators are Airflow's."""
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_rules_of_the_page_are_the_contracts_of_import_linter() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]

    rules = PAGE.partition("## The rules")[2].partition("\n## ")[0]
    assert re.findall(r"^- (.*)$", rules, re.MULTILINE) == contracts


def test_the_page_names_modules_that_are_there() -> None:
    table = PAGE.partition("## Where do I change")[2]
    modules = re.findall(r"`([a-z_/]+(?:/|\.py))`", table)

    assert len(modules) > 20
    assert [module for module in modules if not (PACKAGE / module).exists()] == []


def test_the_picture_has_every_folder_of_the_package() -> None:
    picture = PAGE.partition("```text")[2].partition("```")[0]
    folders = {path.parent.name for folder in (PACKAGE, PACKAGE / "sync") for path in folder.glob("*/__init__.py")}

    assert set(re.findall(r"(\w+)/", picture)) == folders


def test_no_module_is_too_long() -> None:
    lengths = {
        str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in PACKAGE.rglob("*.py")
    }
    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


@pytest.mark.parametrize("operator", list(MAX_PARAMETERS))
def test_an_operator_has_few_parameters(operator: type) -> None:
    names = {
        name
        for one in operator.__mro__
        if one.__module__.startswith(PACKAGE.name) and "__init__" in vars(one)
        for name, parameter in inspect.signature(vars(one)["__init__"]).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    assert 20 < len(names) <= MAX_PARAMETERS[operator], sorted(names)


def _classes() -> Iterator[type]:
    """Give the classes of the package, but for the stand-in's and for errors, whose tree is for ``except``."""
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        if "local_voucherify" in parts or file.name in ("__init__.py", "__main__.py", "errors.py", "exceptions.py"):
            continue
        for value in vars(importlib.import_module(".".join(parts))).values():
            if isinstance(value, type) and value.__module__ == ".".join(parts):
                yield value


def test_no_class_stands_on_more_than_two_of_ours() -> None:
    ancestors = {
        one: [base for base in one.__mro__[1:] if base.__module__.startswith(PACKAGE.name)] for one in _classes()
    }

    assert len(ancestors) > 100
    assert {one: ours for one, ours in ancestors.items() if len(ours) > 2} == {}


def _reasons_to_skip(file: Path) -> Iterator[str]:
    """Give the reasons that a file gives for skipping tests, but for packages that are not installed."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            arguments = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "reason")]
            if node.func.attr in ("skip", "skipif"):
                yield " ".join(map(ast.unparse, arguments))


def test_tests_are_skipped_only_for_an_older_airflow_or_what_is_not_installed() -> None:
    """All that a test reads is in the repository."""
    reasons = {file.name: list(_reasons_to_skip(file)) for file in (ROOT / "tests").rglob("*.py")}

    assert sum(map(len, reasons.values())) > 5
    assert [
        (name, reason)
        for name, given in reasons.items()
        for reason in given
        if "Airflow" not in reason and "is not installed" not in reason
    ] == []
