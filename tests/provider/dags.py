"""Running a DAG in the test process: through ``dag.test()``, on a real database."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.sdk import DAG


@cache
def _database() -> None:
    from airflow.utils.db import initdb

    initdb()


def run_dag(dag: DAG, run_conf: dict[str, Any] | None = None, **kwargs: Any) -> DagRunResult:
    """Run every task of a DAG once, triggers included, and return what came of it."""
    _database()
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder="/dev/null")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, bundle_name="dags-folder", bundle_version=None)
    return DagRunResult(dag.test(run_conf=run_conf, **kwargs))


class DagRunResult:
    """A finished DAG run."""

    def __init__(self, dag_run: Any) -> None:
        self.dag_run = dag_run
        self.state = str(dag_run.state)

    def task_state(self, task_id: str, map_index: int = -1) -> str:
        return str(self.dag_run.get_task_instance(task_id, map_index=map_index).state)

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.scalars(
                XComModel.get_many(
                    run_id=self.dag_run.run_id,
                    dag_ids=self.dag_run.dag_id,
                    task_ids=task_id,
                    key=key,
                    map_indexes=map_index,
                )
            ).first()
            return None if found is None else XComModel.deserialize_value(found)
