"""Which module may import what: Airflow's names come through one module, and the lower layers know nothing of it."""

from __future__ import annotations

import ast
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
        ("local_voucherify", ("client", "sync")),
    ],
)
def test_lower_layers_know_nothing_of_those_above(layer: str, above: tuple[str, ...]) -> None:
    surface = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in MODULES} - LOWER - {"__init__"}
    forbidden = tuple(f"airflow_provider_voucherify.{one}" for one in (*above, *surface))

    for file in (PACKAGE / layer).rglob("*.py"):
        found = [module for module in imported(file) if module.startswith(forbidden)]
        assert found == [], f"{name(file)} imports {found}"
