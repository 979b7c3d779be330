"""
Runs DAGs in a process of its own, in which Airflow's OpenLineage provider writes its events to a file.

The provider reads its settings once, when Airflow is imported, so a test process that has begun without it cannot have
it later. Arguments: the file for the events, a folder, and (as JSON) the connection of a PostgreSQL with the tables.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    events, folder, postgres = sys.argv[1:]
    os.environ.update(
        AIRFLOW_HOME=folder,
        AIRFLOW__CORE__UNIT_TEST_MODE="True",
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{folder}/airflow.db",
        AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="0",
        AIRFLOW__OPENLINEAGE__TRANSPORT=json.dumps({"type": "file", "log_file_path": events, "append": True}),
        AIRFLOW__OPENLINEAGE__NAMESPACE="tests",
        AIRFLOW_CONN_PG=postgres,
        AIRFLOW_CONN_LITE=json.dumps({"conn_type": "sqlite", "host": f"{folder}/warehouse.sqlite"}),
    )
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

    import sqlite3

    from airflow.providers.common.compat.sdk import DAG, task
    from dags import run_dag

    from airflow_provider_voucherify.assets.voucherify import create_asset
    from airflow_provider_voucherify.local_voucherify import LocalVoucherify
    from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
    from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
    from airflow_provider_voucherify.sync.waiting import pauses
    from airflow_provider_voucherify.task.completion import Completion

    Completion.worker_seconds = 0.0
    pauses.SHORTEST_PAUSE = 0.01
    with sqlite3.connect(f"{folder}/warehouse.sqlite") as warehouse:
        warehouse.executescript("CREATE TABLE products (sku TEXT); INSERT INTO products VALUES ('p1');")
    (Path(folder) / "vouchers.jsonl").write_text('{"code": "KNOWN", "channel": "app"}\n')

    with LocalVoucherify() as voucherify:
        login, password = voucherify.options.app_id, voucherify.options.secret_key
        connection = {"conn_type": "voucherify", "host": voucherify.base_url, "login": login, "password": password}
        connection["extra"] = {"poll_interval": 0.02}
        os.environ["AIRFLOW_CONN_VOUCHERIFY_DEFAULT"] = json.dumps(connection)
        os.environ["AIRFLOW_CONN_WRONG_KEY"] = json.dumps({**connection, "password": "wrong-key-123"})
        voucherify.add_voucher("KNOWN")
        with DAG("from_postgres", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync",
                resource="customers",
                sql="SELECT customers.customer_id AS source_id, customers.name, COUNT(*) AS orders FROM customers "
                "JOIN shop.orders ON orders.customer_id = customers.customer_id WHERE customers.country = %(country)s "
                "GROUP BY 1, 2 ORDER BY 1",
                sql_parameters={"country": "PL"},
                sql_conn_id="pg",
                deferrable=True,
                outlets=[create_asset(resource="customers", host=voucherify.base_url.removeprefix("http://"))],
            )
        run_dag(dag)
        with DAG("from_sqlite", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync", resource="products", sql="SELECT sku AS source_id FROM products", sql_conn_id="lite"
            )
        run_dag(dag)
        with DAG("from_a_file", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(task_id="sync", resource="vouchers", path=f"{folder}/vouchers.jsonl")
        run_dag(dag)
        with DAG("too_many_failures", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync",
                resource="customers",
                records=[{"source_id": "c1"}, {"source_id": "private", "birthdate": "soon"}],
            )
        run_dag(dag)
        with DAG("wrong_key", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync", resource="customers", records=[{"source_id": "c1"}], voucherify_conn_id="wrong_key"
            )
        run_dag(dag)
        with DAG("dry_run", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync", resource="customers", records=[{"source_id": "c1"}], dry_run=True
            )
        run_dag(dag)
        with DAG("function_and_sensor", schedule=None) as dag:

            @task.voucherify_bulk_update(resource="products", wait_for_completion=False)
            def sync() -> list[dict[str, str]]:
                """Give two products."""
                return [{"source_id": "p1"}, {"source_id": "p2"}]

            VoucherifyAsyncActionSensor(task_id="wait", async_action_ids=sync()["async_action_ids"], poke_interval=0.02)
        run_dag(dag)
        (Path(folder) / "base_url").write_text(voucherify.base_url)
