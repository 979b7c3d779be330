"""What is imported is declared. Which module may import which, import-linter says (``make lint``)."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "airflow_provider_voucherify"
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Give the modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_every_package_that_is_imported_is_declared() -> None:
    """Else another package may stop bringing it along. What an import waits for until it is needed may be absent."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(one for extra in extras for one in extra)]
    declared = {re.split(r"[^\w-]", requirement)[0].removeprefix("apache-") for requirement in requirements}
    of_databases_and_tools = {
        "MySQLdb",
        "fastapi",
        "psycopg",
        "psycopg2",
        "pymysql",
        "flask_appbuilder",
        "wtforms",
        "openlineage",
        "pytest",
    }

    names = {module.partition(".")[0] for file in MODULES for module in imported(file)}

    assert names - sys.stdlib_module_names - {PACKAGE.name} - of_databases_and_tools - declared == set()
