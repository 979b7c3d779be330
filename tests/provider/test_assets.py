"""Assets: their URIs, and the events that a task with ``outlets`` leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, task
from dags import run_dag
from installed import AIRFLOW

from airflow_provider_voucherify.assets.voucherify import create_asset
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

CUSTOMERS = create_asset(resource="customers")


@pytest.fixture(autouse=AIRFLOW < (3, 0))
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 2 only warns of wrong URIs unless it is told to be strict; later ones always are."""
    monkeypatch.setenv("AIRFLOW__CORE__STRICT_DATASET_URI_VALIDATION", "True")


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("voucherify://api.voucherify.io/customers", "voucherify://api.voucherify.io/customers"),
        ("voucherify://eu/customers", "voucherify://api.voucherify.io/customers"),
        ("voucherify://US1/Products/", "voucherify://us1.api.voucherify.io/products"),
        ("VOUCHERIFY://API.Voucherify.io/vouchers", "voucherify://api.voucherify.io/vouchers"),
        ("voucherify://127.0.0.1:8010/vouchers", "voucherify://127.0.0.1:8010/vouchers"),
        ("voucherify://eu/vouchers?project=shop", "voucherify://api.voucherify.io/vouchers?project=shop"),
    ],
)
def test_a_uri_has_one_form(given: str, uri: str) -> None:
    assert Asset(given).uri == uri


@pytest.mark.parametrize(
    "wrong", ["voucherify://eu", "voucherify://eu/orders", "voucherify://eu/customers/c1", "voucherify:///customers"]
)
def test_a_uri_that_names_no_resource_of_a_host_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="voucherify://<host>/<resource>"):
        Asset(wrong)


def test_a_uri_with_credentials_is_refused() -> None:
    given = "voucherify://my-app-id@eu/customers"
    if AIRFLOW < (3, 1):  # which takes them out of every URI, and warns
        with pytest.warns(UserWarning, match="auth info"):
            assert Asset(given).uri == CUSTOMERS.uri
        return
    with pytest.raises(ValueError, match="must not have credentials"):
        Asset(given)


def test_an_asset_is_made_of_its_parts() -> None:
    asset = create_asset(resource="products", host="as1", extra={"team": "crm"})

    assert (asset.uri, asset.extra) == ("voucherify://as1.api.voucherify.io/products", {"team": "crm"})


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
def test_the_event_has_the_summary_without_rows(
    voucherify: LocalVoucherify, deferrable: bool, defer_at_once: None
) -> None:
    with DAG("assets", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1", "name": "Ann"}, {"source_id": "private", "birthdate": "soon"}],
            fail_if={"failed": 1},
            deferrable=deferrable,
            outlets=[CUSTOMERS, Asset("warehouse-copy")],
            post_execute=lambda context, result: context["outlet_events"][CUSTOMERS].extra.update(by="the author"),
        )

    run = run_dag(dag)

    [extra] = run.asset_extras(CUSTOMERS.uri)
    summary = run.xcom("sync")
    naming = {name: summary.pop(name) for name in ("failures", "reasons", "newly_failed_ids", "preview")}
    assert {**summary, "by": "the author"} == extra
    assert "private" in str(naming)
    assert (extra["created"], extra["refused"], extra["async_action_ids"]) == (1, 1, summary["async_action_ids"])
    assert "private" not in str(extra)
    assert len(run.asset_extras("warehouse-copy")) == 1


@pytest.mark.needs_airflow("3.0", "references to assets came with it")
@pytest.mark.parametrize("by", ["name", "uri"])
def test_an_outlet_may_be_a_reference(voucherify: LocalVoucherify, by: str) -> None:
    customers = Asset(name=f"customers by {by}", uri=f"voucherify://{by}.example.com/customers")
    with DAG(f"assets_by_{by}", schedule=None) as dag:
        task(outlets=[customers], task_id="owner")(lambda: None)()
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1"}],
            outlets=[Asset.ref(**{by: getattr(customers, by)}), Asset.ref(name="of nobody")],
        )

    run = run_dag(dag)

    assert run.task_state("sync") == "success"
    [without, extra] = sorted(run.asset_extras(customers.uri), key=len)
    assert without == {}
    assert (extra["created"], extra["requests"]) == (1, 1)


@pytest.mark.needs_airflow("3.3", "the asset state store came with it")
@pytest.mark.parametrize("by", ["asset", "name", "uri"])
def test_the_asset_keeps_when_the_state_of_its_records_was_written(
    voucherify: LocalVoucherify, by: str, tmp_path: Path
) -> None:
    customers = Asset(name=f"kept by {by}", uri=f"voucherify://{by}.example.com/vouchers")
    outlet = customers if by == "asset" else Asset.ref(**{by: getattr(customers, by)})
    kept = []
    with DAG(f"kept_by_{by}", schedule=None) as dag:
        sync = VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1"}],
            state={"path": str(tmp_path / "state")},
            full_refresh=True,
            outlets=[outlet, Asset.ref(name="of nobody"), Asset.ref(uri="x://of/nobody")],
        )

        @task(inlets=[customers], outlets=[customers])
        def look(asset_state_store: Any = None) -> None:
            kept.append(asset_state_store[customers].get("voucherify_last_sync"))

        sync >> look()

    run = run_dag(dag)

    assert run.state == "success"
    assert [(one["run_id"], one["rows_read"]) for one in kept] == [(run.dag_run.run_id, 1)]


def test_a_sensor_has_events_too(voucherify: LocalVoucherify) -> None:
    with DAG("assets_of_a_sensor", schedule=None) as dag:
        submit = VoucherifyBulkUpdateOperator(
            task_id="submit",
            resource="customers",
            records=[{"source_id": "c1"}],
            wait_for_completion=False,
            outlets=[CUSTOMERS],
        )
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_ids=submit.output["async_action_ids"], poke_interval=0.02, outlets=[CUSTOMERS]
        )

    queued, arrived = run_dag(dag).asset_extras(CUSTOMERS.uri)

    assert (queued["created"], queued["submitted"]) == (None, 1)
    assert arrived["created"] == 1


def test_the_event_of_a_dry_run_says_so(voucherify: LocalVoucherify) -> None:
    with DAG("assets_of_a_dry_run", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=[{"source_id": "c1"}], dry_run=True, outlets=[CUSTOMERS]
        )

    [extra] = run_dag(dag).asset_extras(CUSTOMERS.uri)

    assert extra["dry_run"] is True


def test_a_task_that_fails_leaves_no_event(voucherify: LocalVoucherify) -> None:
    with DAG("assets_of_a_failure", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1", "birthdate": "soon"}],
            outlets=[CUSTOMERS],
        )

    run = run_dag(dag)

    assert run.task_state("sync") == "failed"
    assert run.asset_extras(CUSTOMERS.uri) == []
