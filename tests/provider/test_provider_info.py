"""What Airflow is told about the provider."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from installed import AIRFLOW

from airflow_provider_voucherify.client.settings import ConnectionExtra
from airflow_provider_voucherify.get_provider_info import get_provider_info

SCHEMAS = Path(airflow.__file__).parent


@pytest.mark.parametrize("name", ["provider_info.schema.json", "provider.yaml.schema.json"])
def test_it_fits_airflow_s_own_schema(name: str) -> None:
    schema = json.loads((SCHEMAS / name).read_text())
    info = get_provider_info()
    if name == "provider.yaml.schema.json":
        if AIRFLOW < (3, 0):
            del info["asset-uris"]  # it reads dataset-uris and leaves alone what it does not know; Airflow 3 knows both
        if AIRFLOW < (3, 2):
            del info["cli"]  # the same of commands
        demanded = {"state": "ready", "source-date-epoch": 0, "lifecycle": "production", "dependencies": []}
        info |= {key: value for key, value in demanded.items() if key in schema["properties"]}

    jsonschema.validate(info, schema)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("airflow_provider_voucherify."):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _names(item)


@pytest.mark.parametrize("name", sorted(set(_names(get_provider_info()))))
def test_everything_that_it_names_is_there(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)


def test_it_carries_all_kinds_of_things() -> None:
    kinds = {"hooks", "operators", "sensors", "triggers", "notifications", "extra-links", "connection-types"}
    kinds |= {"task-decorators", "asset-uris", "cli"}

    assert kinds <= set(get_provider_info())


def test_every_extra_of_the_connection_has_a_form_field() -> None:
    [connection_type] = get_provider_info()["connection-types"]

    assert set(connection_type["conn-fields"]) == set(ConnectionExtra.model_fields)


def test_the_installed_provider_is_found_by_airflow() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()

    assert "airflow-provider-voucherify" in manager.providers
    assert manager.hooks["voucherify"].hook_name == "Voucherify"
    link = "airflow_provider_voucherify.links.async_action.VoucherifyAsyncActionsLink"
    assert link in manager.extra_links_class_names
