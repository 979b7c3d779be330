"""Which module may import what: Airflow's names come through one module, and the lower layers know nothing of it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "airflow_provider_voucherify"
MODULES = sorted(PACKAGE.rglob("*.py"))
LOWER = {"models", "client", "sync", "local_voucherify"}


def imported(file: Path) -> Iterator[str]:
    """Give the modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def name(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").as_posix()


def test_every_package_that_is_imported_is_declared() -> None:
    """Else another package may stop bringing it along. What an import waits for until it is needed may be absent."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(one for extra in extras for one in extra)]
    declared = {re.split(r"[^\w-]", requirement)[0].removeprefix("apache-") for requirement in requirements}
    of_databases_and_tools = {
        "MySQLdb",
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


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_only_one_module_imports_airflow(file: Path) -> None:
    lineage = ("airflow.providers.openlineage", "airflow.providers.common.compat.openlineage")
    names = [
        module for module in imported(file) if module.partition(".")[0] == "airflow" and not module.startswith(lineage)
    ]

    assert bool(names) == (name(file) == "compat"), f"import it through compat.py: {names}"


@pytest.mark.parametrize(
    ("layer", "above"),
    [
        ("models", ("client", "sync")),
        ("client", ("sync",)),
        ("sync", ("client.http",)),
        ("local_voucherify", ("client", "sync", "models")),
    ],
)
def test_lower_layers_know_nothing_of_those_above(layer: str, above: tuple[str, ...]) -> None:
    surface = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in MODULES} - LOWER - {"__init__"}
    forbidden = tuple(f"airflow_provider_voucherify.{one}" for one in (*above, *surface))

    for file in (PACKAGE / layer).rglob("*.py"):
        found = [module for module in imported(file) if module.startswith(forbidden)]
        assert found == [], f"{name(file)} imports {found}"


def test_the_contract_is_read_by_the_stand_in_alone() -> None:
    """
    The stand-in imports nothing else of this package (see above), and nothing else imports the stand-in.

    So what it takes from the contract, and what client and engine have in their own tables, can differ and be seen to.
    """
    stand_in = f"{PACKAGE.name}.local_voucherify"

    for file in sorted(set(MODULES) - set((PACKAGE / "local_voucherify").rglob("*.py"))):
        assert [module for module in imported(file) if module.startswith(stand_in)] == [], name(file)
        assert "contract.json" not in file.read_text(encoding="utf-8"), name(file)
