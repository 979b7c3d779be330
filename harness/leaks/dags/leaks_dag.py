"""Syncs that succeed, fail and wait, each with its own connection; ``harness.leaks.run`` searches what they leave."""

from __future__ import annotations

import base64
import os
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_voucherify.client.exports import export_file
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.export import VoucherifyExportOperator
from airflow_provider_voucherify.operators.reconcile import VoucherifyReconcileOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.task.completion import Completion

Completion.worker_seconds = 0.0
REPORTS = os.environ.get("LEAKS_REPORTS", "")
RECORDS = [{"source_id": "c1", "name": "Ann"}, {"source_id": "c2", "birthdate": "soon"}]


EXPORT: dict[str, Any] = {"exported_object": "customer", "fields": ["source_id", "name"]}


def sync(task_id: str, conn_id: str, **kwargs: Any) -> VoucherifyBulkUpdateOperator:
    """Return a task that updates customers."""
    return VoucherifyBulkUpdateOperator(
        task_id=task_id, resource="customers", voucherify_conn_id=conn_id, **{"records": RECORDS, **kwargs}
    )


def exported(hook: VoucherifyHook) -> Any:
    """Return an export that has a file."""
    export = hook.create_export(**EXPORT)
    while not export.is_finished:
        time.sleep(0.5)
        export = hook.get_export(export.id)
    return export


with DAG("leaks", schedule=None, default_args={"retries": 1, "retry_delay": timedelta(seconds=1)}, max_active_tasks=4):
    for auth in ("keys", "oauth"):
        deferred = {"deferrable": True, "poll_interval": 2, "fail_if": {"failed": 5}}
        sync(f"deferred_{auth}", f"good_{auth}", report_path=f"{REPORTS}/{auth}", **deferred)
        sync(f"too_many_failures_{auth}", f"good_{auth}", fail_if={"failed": 0})
        sync(f"quoted_by_a_gateway_{auth}", f"bad_{auth}")
        sent = sync(f"not_waited_for_{auth}", f"good_{auth}", wait_for_completion=False, fail_if={"failed": 5})
        VoucherifyAsyncActionSensor(
            task_id=f"sensor_{auth}",
            voucherify_conn_id=f"good_{auth}",
            async_action_ids=sent.output["async_action_ids"],
            fail_if={"failed": 5},
            deferrable=True,
        )
        for name in ("good", "bad"):
            VoucherifyExportOperator(
                task_id=f"export_{name}_{auth}",
                path=f"{REPORTS}/{name}_{auth}.csv",
                voucherify_conn_id=f"{name}_{auth}",
                deferrable=True,
                poll_interval=2,
                **EXPORT,
            )
    sync("verified", "good_keys", read_back={"verify": "all"}, fail_if={"failed": 5, "differing": 5})
    VoucherifyReconcileOperator(
        task_id="reconcile",
        resource="customers",
        records=RECORDS,
        voucherify_conn_id="good_oauth",
        report_path=f"{REPORTS}/drift",
        fail_if={"failed": 5},
    )

    @task
    def connection_tests() -> list[Any]:
        """Say what the Test button says."""
        return [
            VoucherifyHook(f"{kind}_{auth}").test_connection() for kind in ("good", "bad") for auth in ("keys", "oauth")
        ]

    @task
    def crash_dump() -> None:
        """Print what a person looks at after a crash, and fail with the rest."""
        with VoucherifyHook("good_oauth") as hook:
            client = hook.get_conn()
            client.list_async_actions()
            export = exported(hook)
            file = client.send(export_file(export.id))
            print(client, vars(client), repr(client.settings), client.settings.model_dump(), export, repr(file), file)
            raise RuntimeError(f"{vars(hook)} {vars(client._protocol)} {vars(export)} {vars(file)}")

    @task
    def plant() -> str:
        """Leak on purpose, such that Airflow's own masking does not notice."""
        pair = base64.b64encode(os.environ["LEAKS_PLANT"].encode()).decode()
        print("planted", pair)
        return pair

    @task
    def plant_export() -> str:
        """Show the address of an export's file."""
        with VoucherifyHook("good_keys") as hook:
            url = hook.get_conn().send(export_file(exported(hook).id)).url
        assert url is not None
        print("planted", url.get_secret_value())
        return url.get_secret_value()

    connection_tests()
    crash_dump()
    if "LEAKS_PLANT" in os.environ:
        plant()
        plant_export()
