"""Every parse of a DAG file pays for what the operators import: nothing but this package's own light modules."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from installed import AIRFLOW

OURS = "airflow_provider_voucherify"
BASES = (
    "import airflow.sdk" if AIRFLOW >= (3, 1) else "import airflow.decorators, airflow.models.dag, airflow.sensors.base"
)
HEAVY = ("httpx", "msgspec", "pydantic")
LIGHT = {
    "models",
    "models.endpoints",
    "models.errors",
    "models.exported_objects",
    "models.numbers",
    "models.spelling",
    "sync",
    "sync.results",
    "sync.results.thresholds",
    "sync.types",
    "sync.types.text",
    "sync.waiting",
    "sync.waiting.pauses",
}
"""Modules of the engine that operators and sensor may import: numbers, errors, texts and the table of endpoints."""

SCRIPT = f"""
import json, sys
{BASES}
before = set(sys.modules)
import {OURS}.operators.bulk, {OURS}.operators.export, {OURS}.operators.reconcile, {OURS}.sensors.async_action
new = set(sys.modules) - before

def package(thing):
    name = thing.__name__ if isinstance(thing, type(sys)) else getattr(thing, "__module__", None)
    return str(name).partition(".")[0]

heavy = {{
    name: sorted({{package(thing) for thing in vars(sys.modules[name]).values()}} & set({HEAVY!r}))
    for name in list(sys.modules)
    if name.startswith("{OURS}")
}}
packages = {{name.partition(".")[0] for name in new}} - {{name.partition(".")[0] for name in before}}
packages -= sys.stdlib_module_names
heavy = {{name: uses for name, uses in heavy.items() if uses}}
ours = sorted(name for name in sys.modules if name.startswith("{OURS}."))
print(json.dumps({{"ours": ours, "packages": sorted(packages), "heavy": heavy}}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, object]:
    """What a fresh interpreter has imported with operators and sensor, and beyond Airflow's own base classes."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, timeout=120)
    said: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_no_other_package_is_imported_than_airflow_has_imported_already(imported: dict[str, list[str]]) -> None:
    assert set(imported["packages"]) <= {OURS}


def test_no_module_of_ours_that_uses_a_client_models_or_codegen_is_imported(imported: dict[str, object]) -> None:
    assert imported["heavy"] == {}


def test_the_engine_is_imported_only_when_a_task_runs(imported: dict[str, list[str]]) -> None:
    rooms = {name.removeprefix(f"{OURS}.") for name in imported["ours"]}
    engine = {name for name in rooms if name.partition(".")[0] in ("client", "models", "sync")}

    assert engine <= LIGHT
