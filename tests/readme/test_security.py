"""docs/security.md: every promise names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re

import pytest
from readme_file import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PROMISES = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| promise")]


@pytest.mark.parametrize("line", PROMISES, ids=lambda line: line[2:60])
def test_a_promise_names_tests_that_are_there(line: str) -> None:
    named = re.findall(r"`((?:tests|harness)/[\w/]+\.py)(?:::(\w+))?`", line.split("|")[2])

    assert named
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert (test or "main") in functions


def test_there_are_promises() -> None:
    assert len(PROMISES) > 15
