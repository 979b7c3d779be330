"""Seven nights of three syncs and a drift report: rows change, fail and are fixed, a key is wrong, processes die."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import DropAfter, LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.operators.reconcile import VoucherifyReconcileOperator
from harness.history.clock import MovedClock

APP_ID, SECRET_KEY = "local-app-id", "local-secret-key"
STATE = {"conn_id": "warehouse", "keep_values": True}
CSV_STATE = {"conn_id": "warehouse"}

MAPPING = {
    "id": "source_id",
    "name": "name",
    "birthdate": "birthdate",
    "segment": "metadata.segment",
    "lifetime_value": "metadata.lifetime_value",
}

CUSTOMERS: dict[str, Any] = {
    "resource": "customers",
    "sql": "SELECT id, name, segment, lifetime_value, birthdate FROM customers ORDER BY id",
    "sql_conn_id": "warehouse",
    "mapping": MAPPING,
}

SCHEMAS = {
    "customer": {
        "properties": {
            "segment": {"type": "string", "optional": True, "eq": ["new", "regular", "vip"]},
            "lifetime_value": {"type": "number", "optional": True, "gte": 0},
        }
    }
}

_SEGMENTS = ("new", "regular", "vip")
_CUSTOMERS = ", ".join(
    f"('c{n}', 'Customer {n}', '{'platinum' if n == 117 else _SEGMENTS[n % 3]}', {n}.5, '1990-04-{n - 100:02}')"
    for n in range(101, 131)
)

BEFORE = (
    "CREATE TABLE customers (id VARCHAR(20), name VARCHAR(50), segment VARCHAR(20), lifetime_value FLOAT, "
    "birthdate VARCHAR(10))",
    f"INSERT INTO customers VALUES {_CUSTOMERS}, (NULL, 'No id', 'new', 1.5, NULL)",
    "CREATE TABLE coupons (code VARCHAR(20), campaign VARCHAR(20))",
    "INSERT INTO coupons VALUES ('AUTUMN-1', 'autumn'), ('AUTUMN-2', 'autumn'), ('AUTUMN-4', 'autumn')",
)
COUPONS_AT_VOUCHERIFY = ("AUTUMN-1", "AUTUMN-2", "AUTUMN-3", "WINTER-1")


@dataclass(frozen=True)
class Night:
    """
    One night.

    :param changes: statements that change the warehouse before it.
    :param trouble: of the sync of customers: ``dies`` (and is retried) or ``wrong key``.
    :param fixed: statements after which somebody clears the sync of customers in the morning; none: nobody does.
    :param coupons: the sync of coupons: ``runs``, or ``dies`` (and is not retried).
    :param products: whether the sync of products runs at all.
    :param by_hand: customers that somebody has changed or added in the dashboard before it.
    """

    day: int
    changes: tuple[str, ...] = ()
    trouble: str | None = None
    fixed: tuple[str, ...] = ()
    coupons: str = "runs"
    products: bool = True
    by_hand: tuple[dict[str, Any], ...] = ()


NIGHTS = (
    Night(6),
    Night(7, ("UPDATE customers SET segment = 'regular' WHERE id = 'c123'",)),
    Night(
        8,
        (
            "UPDATE customers SET segment = 'vip' WHERE id IN ('c105', 'c108')",
            "INSERT INTO customers VALUES ('c131', 'Customer 131', 'new', 0, '1991-05-01')",
            "INSERT INTO coupons VALUES ('AUTUMN-3', 'autumn')",
        ),
        trouble="dies",
    ),
    Night(9, ("UPDATE customers SET segment = 'vip' WHERE id = 'c112'",), trouble="wrong key"),
    Night(
        10,
        ("UPDATE customers SET lifetime_value = -1 WHERE id IN ('c101', 'c102', 'c103', 'c104')",),
        fixed=("UPDATE customers SET lifetime_value = 0 WHERE id IN ('c101', 'c102', 'c103')",),
    ),
    Night(
        11,
        ("UPDATE customers SET segment = 'vip' WHERE id = 'c123'",),
        by_hand=(
            {"source_id": "c106", "metadata": {"segment": "vip"}},
            {"source_id": "desk-1", "name": "From the desk"},
        ),
    ),
    Night(
        12,
        (
            "UPDATE customers SET segment = 'vip', birthdate = '31.02.1990' WHERE id = 'c115'",
            "UPDATE customers SET segment = 'regular' WHERE id = 'c108'",
        ),
        coupons="dies",
        products=False,
    ),
)
TODAY = f"2026-11-{NIGHTS[-1].day:02}"


class Runner(Protocol):
    """What runs the task ``sync`` of a DAG, with its retries."""

    def run(self, dag: DAG, logical_date: datetime) -> None:
        """Run it once."""

    def clear(self, dag: DAG) -> None:
        """Clear its last run, and let it run again."""


@contextmanager
def voucherify_of_the_week() -> Iterator[LocalVoucherify]:
    """Give a local Voucherify that has the coupons and the metadata schema of the week."""
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas=SCHEMAS) as server:
        for code in COUPONS_AT_VOUCHERIFY:
            server.add_voucher(code)
        yield server


class Week:
    """
    The week, of which the history remains.

    :param folder: for the file of the products.
    :param warehouse: the connection of the warehouse, as JSON; it gets the source tables and the history.
    :param execute: executes a statement there.
    """

    def __init__(self, folder: Path, warehouse: str, execute: Callable[[str], object], runner: Runner) -> None:
        self._products = folder / "products.csv"
        self._warehouse = warehouse
        self._execute = execute
        self._runner = runner

    def play(self) -> None:
        """Let the nights pass; each begins at two o'clock UTC, and the process's clock is moved to it."""
        self._products.write_text("source_id,name,price\nmug,Mug,9\npen,Pen,2\npad,Pad,4\n", encoding="utf-8")
        with (
            voucherify_of_the_week() as self._voucherify,
            MovedClock() as self._clock,
            patch.dict(os.environ, {"AIRFLOW_CONN_WAREHOUSE": self._warehouse, **self._connection(SECRET_KEY)}),
        ):
            for statement in BEFORE:
                self._execute(statement)
            for night in NIGHTS:
                self._pass(night)

    def _pass(self, night: Night) -> None:
        for statement in night.changes:
            self._execute(statement)
        for record in night.by_hand:
            with VoucherifyHook() as hook:
                hook.create_customer(record)
        with ExitStack() as trouble:
            if night.trouble == "dies":
                trouble.enter_context(self._dying())
            if night.trouble == "wrong key":
                trouble.enter_context(patch.dict(os.environ, self._connection("key-of-another-project")))
            self._run(self._customers(), night, 2)
        with self._dying() if night.coupons == "dies" else ExitStack():
            self._run(self._coupons(), night, 3)
        if night.products:
            self._run(self._import(), night, 4)
        self._run(self._drift(), night, 5)
        if night.fixed:
            for statement in night.fixed:
                self._execute(statement)
            self._clock.move(self._moment(night, 8))
            self._runner.clear(self._customers())

    def _run(self, dag: DAG, night: Night, hour: int) -> None:
        moment = self._moment(night, hour)
        self._clock.move(moment)
        self._runner.run(dag, moment)

    @staticmethod
    def _moment(night: Night, hour: int) -> datetime:
        return datetime(2026, 11, night.day, hour, tzinfo=UTC)

    @contextmanager
    def _dying(self) -> Iterator[None]:
        """Lose the answer to a request, and leave of the try what a killed process leaves: nobody closes its record."""
        from airflow_provider_voucherify.task.history import TryRecord

        close = TryRecord.close
        self._voucherify.misbehave("submit", DropAfter())
        with patch.object(TryRecord, "close", lambda record, error: None if error else close(record, error)):
            yield

    def _connection(self, secret_key: str) -> dict[str, str]:
        connection = {
            "conn_type": "voucherify",
            "host": self._voucherify.base_url,
            "login": APP_ID,
            "password": secret_key,
            "extra": {"poll_interval": 0.02},
        }
        return {"AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(connection)}

    @staticmethod
    def _customers() -> DAG:
        return _dag(
            "nightly_customers",
            lambda **common: VoucherifyBulkUpdateOperator(
                **CUSTOMERS,
                fail_if={"failed": 3},
                read_back={"verify": "all"},
                state=STATE,
                retries=1,
                **common,
            ),
        )

    @staticmethod
    def _coupons() -> DAG:
        return _dag(
            "nightly_coupons",
            lambda **common: VoucherifyBulkMetadataOperator(
                resource="vouchers",
                sql="SELECT code FROM coupons WHERE campaign = 'autumn' ORDER BY code",
                sql_conn_id="warehouse",
                metadata={"tag": "autumn"},
                fail_if={"failed": 0, "expected_keys": ["not_found"]},
                state=STATE,
                retries=0,
                **common,
            ),
        )

    @staticmethod
    def _drift() -> DAG:
        return _dag(
            "customers_drift",
            lambda **common: VoucherifyReconcileOperator(
                **CUSTOMERS,
                fail_if={"failed": None},
                state=STATE,
                retries=0,
                **common,
            ),
        )

    def _import(self) -> DAG:
        return _dag(
            "nightly_products",
            lambda **common: VoucherifyImportCsvOperator(
                resource="products", path=str(self._products), state=CSV_STATE, retries=0, **common
            ),
        )


def _dag(dag_id: str, operator: Callable[..., Any]) -> DAG:
    with DAG(dag_id, schedule=None) as dag:
        operator(task_id="sync", retry_delay=timedelta(0))
    return dag
