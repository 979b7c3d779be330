"""docs/api-coverage.md: what it names is there, and nothing of the hook is missing."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache

import pytest
from readme_file import ROOT

from airflow_provider_voucherify.compat import BaseHook
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook

TEXT = (ROOT / "docs" / "api-coverage.md").read_text(encoding="utf-8")
ROWS = [
    re.findall(r"`([^`]+)`", line)
    for line in TEXT.partition("## Details")[0].splitlines()
    if line.startswith("| ") and "vendor method" not in line
]
NOT_CALLS = {"close", "download_report", "get_async_conn", "get_conn", "hidden_id", "test_connection", "settings"}
OLD_CUSTOMERS_API = {
    "create_customer",
    "customer_permanently_deletion",
    "delete_customer",
    "get_customer",
    "import_customers_using_csv",
    "list_customer_activities",
    "list_customer_segments",
    "list_customers",
    "update_customer",
    "update_customers_consents",
    "update_customers_in_bulk",
    "update_customers_metadata_in_bulk",
}
"""The methods of the vendor's page ``CustomersApi.md`` that this provider was asked to offer."""


@cache
def defined_tests(path: str) -> set[str]:
    """Return the names of a file's tests, those of classes with the class before them."""
    names: set[str] = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[-2])
def test_the_method_and_the_test_are_there(row: list[str]) -> None:
    ours, test = row[-2:]
    path, _, name = test.partition("::")

    assert hasattr(VoucherifyHook, ours) or ours == "auth_method: oauth"
    assert (ROOT / path).is_file()
    assert not name or name in defined_tests(path)


def test_no_method_of_the_hook_is_missing() -> None:
    offered = {name for name, _ in inspect.getmembers(VoucherifyHook) if not name.startswith("_")}
    inherited = {name for name, _ in inspect.getmembers(BaseHook)}
    attributes = {"conn_name_attr", "default_conn_name", "conn_type", "hook_name"}

    assert offered - inherited - attributes - NOT_CALLS == {row[-2] for row in ROWS} - {"auth_method: oauth"}


def test_every_method_of_the_vendor_s_page_is_covered() -> None:
    section = TEXT.partition("## CustomersApi")[2].partition("\n## ")[0]
    covered = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}

    assert covered >= OLD_CUSTOMERS_API
