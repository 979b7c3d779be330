"""The Airflow that the tests run on; nothing of it is imported here."""

from __future__ import annotations

from importlib.metadata import version

import pytest

AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
"""The installed Airflow, e.g. ``(3, 3)``."""

HAS_TASK_STATE_STORE = AIRFLOW >= (3, 3)
"""Tries of a task know what earlier ones have sent; see ``test_without_a_store.py`` for the others."""

needs_store = pytest.mark.needs_airflow("3.3", "the task state store came with it")
