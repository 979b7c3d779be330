"""Metrics: what arrives at a StatsD server, and the table of ``docs/metrics.md``."""

from __future__ import annotations

import os
import re
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import DagRunResult, run_dag
from installed import AIRFLOW

from airflow_provider_voucherify.compat import Stats
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.local_voucherify.misbehaviour import RateLimited
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.export import VoucherifyExportOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.operators.reconcile import VoucherifyReconcileOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.task.metrics import FAILURE_KEYS, OTHER_KEY

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


class StatsdServer:
    """What a StatsD server got of this provider's metrics."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self.tags: dict[str, set[str]] = defaultdict(set)
        self.types: dict[str, str] = {}

    def received(self) -> dict[str, float]:
        """Return the sums of what has come since the last time, by name without the prefix."""
        sums: dict[str, float] = defaultdict(float)
        self._socket.setblocking(False)
        while True:
            try:
                packet = self._socket.recv(65_536).decode()
            except BlockingIOError:
                return dict(sums)
            for line in packet.splitlines():
                series, value, kind = re.fullmatch(r"airflow\.(\S+):([\d.]+)\|(c|ms)", line).groups()  # type: ignore[union-attr]
                name, *tags = series.split(",")
                if name.startswith("voucherify."):
                    sums[name] += float(value)
                    self.tags[name].add(" ".join(sorted(tags)))
                    self.types[name] = {"c": "counter", "ms": "timer"}[kind]


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """Metrics of this process go to a server on a free port of 127.0.0.1, as a worker sets it up at its start."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        listening.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(listening.getsockname()[1]))
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
        with ExitStack() as cleanup:
            logger = _statsd_logger()
            cleanup.enter_context(closing(logger.statsd))
            _use(logger, monkeypatch, cleanup)
            yield StatsdServer(listening)


def _statsd_logger() -> Any:
    """Return what sends metrics as the configuration says."""
    if AIRFLOW < (3, 2):
        return import_module("airflow.metrics.statsd_logger").get_statsd_logger(None)
    return import_module("airflow.sdk.observability.metrics.statsd_logger").get_statsd_logger()


def _use(logger: Any, monkeypatch: pytest.MonkeyPatch, cleanup: ExitStack) -> None:
    """Let Airflow's Stats of this process send with it until the test ends."""
    if AIRFLOW < (3, 3):
        monkeypatch.setattr(Stats, "instance", logger)
        monkeypatch.setattr(Stats, "_instance_pid", os.getpid(), raising=False)
        return
    import_module("airflow.sdk.serde")  # sets Stats up when it is first imported, so it comes before this
    nothing = import_module("airflow.sdk._shared.observability.metrics.base_stats_logger").NoStatsLogger
    cleanup.callback(Stats.initialize, factory=nothing, export_legacy_names=False)
    Stats.initialize(factory=lambda: logger, export_legacy_names=False)


def sync(**kwargs: Any) -> DagRunResult:
    with DAG("metrics", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", **{"resource": "customers", "fail_if": {"failed": None}, **kwargs})
    return run_dag(dag)


def counts(received: dict[str, float], *without: str) -> dict[str, int]:
    """Return what is counted, without the names' common part, and without what only has to be there."""
    return {
        name.removeprefix("voucherify."): int(value)
        for name, value in received.items()
        if name.removeprefix("voucherify.") not in ("completion_wait", "rate_limit_wait", "requests", *without)
    }


def test_a_deferred_sync_counts_each_thing_once(
    voucherify: LocalVoucherify, statsd: StatsdServer, defer_at_once: None
) -> None:
    sync(records=[{"source_id": "known"}], deferrable=False)
    statsd.received()

    run = sync(
        records=[
            *({"source_id": one} for one in ("known", "new", "new", None)),
            {"source_id": "c3", "birthdate": "soon"},
        ],
        deferrable=True,
    )

    received = statsd.received()
    assert counts(received) == {
        "rows_read": 5,
        "bulk_requests": 1,
        "bytes_sent": run.xcom("sync")["bytes_sent"],
        "records.updated": 1,
        "records.created": 1,
        "records.superseded": 1,
        "records.refused": 2,
        "failures.missing_key": 1,
        "failures.invalid_value": 1,
    }
    assert received["voucherify.requests"] == 2, "the worker's, not the triggerer's"
    assert received["voucherify.completion_wait"] > 0
    assert statsd.tags["voucherify.rows_read"] == {"dag_id=metrics resource=customers task_id=sync"}


def test_what_was_sent_is_counted_though_the_task_failed(voucherify: LocalVoucherify, statsd: StatsdServer) -> None:
    from airflow_provider_voucherify.local_voucherify.misbehaviour import Status

    voucherify.misbehave("submit", Status(403), after=1)

    run = sync(records=[{"source_id": "c1"}, {"source_id": "c2"}], requests={"max_records": 1, "max_in_flight": 1})

    assert run.task_state("sync") == "failed"
    assert counts(statsd.received(), "bytes_sent") == {"rows_read": 2, "bulk_requests": 2}


def test_a_wait_for_a_rate_limit_is_timed(voucherify: LocalVoucherify, statsd: StatsdServer) -> None:
    voucherify.misbehave("submit", RateLimited(retry_after=0.3))

    sync(records=[{"source_id": "c1"}])

    received = statsd.received()
    assert 300 <= received["voucherify.rate_limit_wait"] < 10_000
    assert received["voucherify.bulk_requests"] == 2


def test_a_sensor_counts_the_outcome_and_not_the_sending(
    voucherify: LocalVoucherify, statsd: StatsdServer, defer_at_once: None
) -> None:
    run = sync(records=[{"source_id": "c1"}, {"source_id": "c2"}], resource="products", wait_for_completion=False)
    assert counts(statsd.received(), "bytes_sent") == {"rows_read": 2, "bulk_requests": 1}

    with DAG("metrics_of_a_sensor", schedule=None) as dag:
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_ids=run.xcom("sync")["async_action_ids"], deferrable=True, poke_interval=0.02
        )
    run_dag(dag)

    received = statsd.received()
    assert counts(received) == {"records.created": 2}
    assert "voucherify.completion_wait" in received
    assert statsd.tags["voucherify.records.created"] == {"dag_id=metrics_of_a_sensor resource=products task_id=wait"}


def test_a_csv_import_counts_the_same(voucherify: LocalVoucherify, statsd: StatsdServer, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("Source_id,Name\nc1,Ann\nc2,Bo\n")
    with DAG("metrics_of_an_import", schedule=None) as dag:
        VoucherifyImportCsvOperator(task_id="import", resource="customers", path=str(file))
    run_dag(dag)

    received = statsd.received()
    assert counts(received, "bytes_sent") == {"rows_read": 2, "bulk_requests": 1, "records.written": 2}
    assert received["voucherify.bytes_sent"] > len(file.read_bytes())
    assert received["voucherify.completion_wait"] > 0
    assert statsd.tags["voucherify.rows_read"] == {"dag_id=metrics_of_an_import resource=customers task_id=import"}


def test_every_name_of_the_table_is_sent_and_every_name_that_is_sent_is_in_the_table(
    voucherify: LocalVoucherify, statsd: StatsdServer, tmp_path: Path
) -> None:
    documented = dict(re.findall(r"^\| `(voucherify\.[a-z_.]+)` \| (\w+) \|", DOCUMENTED.read_text(), re.MULTILINE))
    sync(records=[{"source_id": "c1"}])
    sync(
        records=[
            *({"source_id": one} for one in ("c1", "c1", "c2", None)),
            {"source_id": "c3", "birthdate": "soon"},
            3.5,
            {"source_id": "c4", "address_city": "Cork", "address.city": "Cork"},
            {"source_id": "c5", "description": "x" * 2_000},
        ],
        requests={"max_bytes": 1_000},
    )
    voucherify.misbehave("submit", RateLimited(retry_after=0.01))
    voucherify.next_actions(status="FAILED")
    sync(records=[{"source_id": "c1"}])
    keys = ("not_found", "invalid_payload", "metadata_validation_failed", "a_key_of_tomorrow")
    errors = [{"code": key, "key": key, "message": "no"} for key in keys]
    voucherify.next_actions(result_fields={"done_count": 1, "failed_count": 4, "errors": errors, "reports": []})
    sync(resource="vouchers", records=[{"code": code, "metadata": {"a": 1}} for code in ("KNOWN", "LOST", *keys)])
    sync(resource="vouchers", records=[{"code": "NOTHING"}])
    sync(resource="vouchers", records=[{"code": "GONE", "metadata": {"a": 1}}], report_path=str(tmp_path))
    sync(resource="vouchers", path=str(tmp_path / "failures.jsonl"), requests={"max_attempts": 1})
    found = [{"source_id": "c1", "found": True, "updated": False}]
    voucherify.next_actions(result_fields={"done_count": 1, "reports": [], "results": found})
    sync(records=[{"source_id": "c1"}])
    state = {"path": str(tmp_path / "state"), "on_removed": "report", "max_removed_ratio": None}
    for ids in ("ab", "a"):
        sync(records=[{"source_id": name} for name in ids], state=state)

    with DAG("metrics_of_a_report", schedule=None) as dag:
        VoucherifyExportOperator(task_id="export", exported_object="customer", path=str(tmp_path / "customers.csv"))
        VoucherifyReconcileOperator(
            task_id="reconcile",
            resource="customers",
            records=[{"source_id": "c1"}, {"source_id": "c2", "name": "Bo"}, {"source_id": "new"}],
        )
    run_dag(dag)

    received = statsd.received()

    assert {f"voucherify.failures.{key}" for key in [*FAILURE_KEYS, OTHER_KEY]} <= received.keys()
    assert {name: statsd.types[name] for name in received} == documented
