"""The DAGs of ``dags_examples``, loaded the way Airflow's dag processor does it."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG

EXAMPLES = Path(__file__).resolve().parents[1] / "dags_examples"


def load(name: str) -> DAG:
    """Load the DAG of the file with that name."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(EXAMPLES / f"{name}.py")
    assert bag.import_errors == {}
    return bag.dags[name]
