"""The DAGs of ``dags_examples``, loaded the way Airflow's dag processor does it."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG
from dags import dag_bag

EXAMPLES = Path(__file__).resolve().parents[1] / "dags_examples"


def load(name: str) -> DAG:
    """Load the DAG of the file with that name."""
    bag = dag_bag(EXAMPLES / f"{name}.py")
    assert bag.import_errors == {}
    return bag.dags[name]
