"""
Runs the demo: ``make demo``, or ``python -m harness.demo.run``.

Everything it makes is in ``.demo``: the warehouse, Airflow's home and log, Voucherify's reports. Nothing leaves this
machine, and all processes have ended when it returns.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.notifications.texts import ready_texts
from harness import ROOT
from harness.demo import warehouse
from harness.demo.airflow_process import Airflow
from harness.demo.tables import outcome_table, reasons_table

FOLDER = ROOT / ".demo"
APP_ID, SECRET_KEY = "local-app-id", "local-secret-key"
ACTION_SECONDS = 4
"""How long the local Voucherify takes for an async action."""

DAG_ID = "demo_nightly_sync"
SHOWN_STATES = {
    "running": "is running",
    "deferred": "is deferred: its trigger waits for Voucherify",
    "success": "has succeeded",
    "failed": "has failed",
}

_started = time.monotonic()


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"{time.monotonic() - _started:5.1f} s  {text}", flush=True)


def main() -> int:
    """Run the demo and return the exit status."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    rows = warehouse.build(FOLDER / "warehouse.sqlite")
    say(f"warehouse: {rows:,} rows in .demo/warehouse.sqlite")
    with local_voucherify() as client:
        say(f"local Voucherify: {client.settings.base_url}")
        client.bulk_update("customers", [{"source_id": known} for known in warehouse.known_ids()])
        say(f"local Voucherify: knows {warehouse.KNOWN_CUSTOMERS:,} of the customers from the night before")
        airflow = Airflow(FOLDER, ROOT / "dags_examples", connections(client.settings.base_url))
        say("Airflow: making its database in .demo/airflow, log in .demo/airflow.log")
        airflow.migrate()
        say(f"Airflow: starting the DAG {DAG_ID}")
        with airflow.running(DAG_ID) as run:
            for task, state in run.state_changes():
                if state in SHOWN_STATES:
                    say(f"Airflow: {task} {SHOWN_STATES[state]}")
    if not run.succeeded:
        print(f"The DAG run failed; the end of .demo/airflow.log:\n{airflow.log_tail()}", file=sys.stderr)
        return 1
    sent, arrived = run.result("sync_customers"), run.result("wait_for_voucherify")
    print(f"\n{outcome_table(sent, arrived)}\n\n{reasons_table(sent, arrived)}")
    print("\nWhat a message to Slack or a mail says:")
    for summary in (sent, arrived):
        print("\n" + ready_texts(summary)["voucherify_text"])
    print("\nThe DAG: dags_examples/demo_nightly_sync.py. Reports and failures.jsonl: .demo/reports")
    return 0


@contextmanager
def local_voucherify() -> Iterator[VoucherifyClient]:
    """Start a local Voucherify in a process of its own, give a client of it, and end it."""
    schemas = FOLDER / "metadata_schemas.json"
    schemas.write_text(json.dumps(warehouse.METADATA_SCHEMAS), encoding="utf-8")
    module = "airflow_provider_voucherify.local_voucherify"
    options = ["--action-seconds", str(ACTION_SECONDS), "--metadata-schemas", str(schemas)]
    options += ["--app-id", APP_ID, "--secret-key", SECRET_KEY]
    with subprocess.Popen([sys.executable, "-m", module, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            settings = ConnectionSettings.build(application_id=APP_ID, secret_key=SECRET_KEY, host=url)
            with VoucherifyClient(settings) as client:
                yield client
        finally:
            process.terminate()


def connections(base_url: str) -> dict[str, str]:
    """Return the connections and the variable of the DAG as environment variables, the way Airflow reads them."""
    voucherify = {"conn_type": "voucherify", "host": base_url, "login": APP_ID, "password": SECRET_KEY}
    return {
        "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(voucherify),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(FOLDER / "warehouse.sqlite")}),
        "AIRFLOW_VAR_VOUCHERIFY_REPORTS": str(FOLDER / "reports"),
    }


if __name__ == "__main__":
    sys.exit(main())
