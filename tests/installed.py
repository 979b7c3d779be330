"""The Airflow that the tests run on; nothing of it is imported here."""

from __future__ import annotations

from importlib.metadata import version

AIRFLOW = tuple(map(int, version("apache-airflow").split(".")[:2]))
"""The installed Airflow, e.g. ``(3, 3)``."""
