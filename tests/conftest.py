"""Fixtures of all tests. Airflow reads its configuration when it is first imported, so its home is set here, before."""

from __future__ import annotations

import os
import tempfile

from installed import AIRFLOW

_HOME = tempfile.mkdtemp(prefix="airflow-home-")
os.environ.update(
    AIRFLOW_HOME=_HOME,
    AIRFLOW__CORE__UNIT_TEST_MODE="True",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=os.path.join(_HOME, "dags"),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME}/airflow.db",
    AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="0",
    AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",  # another DAG of the same name may follow at once
)
if AIRFLOW < (3, 0):
    os.environ["AIRFLOW__CORE__EXECUTOR"] = "SequentialExecutor"  # the only one that goes with SQLite there

import shutil  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402

import openapi  # noqa: E402
import pytest  # noqa: E402
from connections import APP_ID, SECRET_KEY, connect  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from parameter_ids import has_address  # noqa: E402

from airflow_provider_voucherify.local_voucherify import LocalVoucherify  # noqa: E402

settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")  # how long an example takes says something about the machine alone


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Take warnings of our own code for errors on every Airflow, those of Airflow's code on the newest alone."""
    if AIRFLOW < (3, 3):
        for line in ("default", "error:::airflow_provider_voucherify"):
            config.addinivalue_line("filterwarnings", line)
    if AIRFLOW == (3, 0):
        _plain_tracebacks()


def _plain_tracebacks() -> None:
    """Keep Airflow 3.0 from drawing every local variable: seconds for each failed task, and messages cut into lines."""
    import structlog

    structlog.dev.RichTracebackFormatter.__call__ = lambda _, out, error: structlog.dev.plain_traceback(out, error)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the installed Airflow does not have, as ``needs_airflow`` says."""
    if unstable := [item.nodeid for item in items if has_address(item.nodeid)]:
        raise pytest.UsageError(f"names of tests that differ between processes: {unstable}")
    here = ".".join(map(str, AIRFLOW))
    for item in items:
        for marker in item.iter_markers("needs_airflow"):
            needed, why = marker.args
            if tuple(map(int, needed.split("."))) > AIRFLOW:
                item.add_marker(pytest.mark.skip(reason=f"needs Airflow {needed}, and this is {here}: {why}"))


@pytest.fixture
def task_log(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """
    Give a function that returns what tasks have logged: to standard output in Airflow 3, as records in Airflow 2
    and partly in Airflow 3.0.

    It leaves out the secrets that Airflow 3.0 itself logs while it says that they are to be masked.
    """

    def read() -> str:
        said = capfd.readouterr().out if AIRFLOW >= (3, 0) else ""
        records = [caplog.handler.format(one) for one in caplog.records if one.getMessage() not in said]
        lines = "\n".join([said, *records]).splitlines()
        return "\n".join(line for line in lines if "MaskSecret(" not in line)

    return read


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests look at async actions more often than a second apart."""
    from airflow_provider_voucherify.sync.waiting import pauses

    monkeypatch.setattr(pauses, "SHORTEST_PAUSE", 0.01)


@pytest.fixture
def defer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deferrable tasks be deferred before they poll from their worker."""
    from airflow_provider_voucherify.task.completion import Completion

    monkeypatch.setattr(Completion, "worker_seconds", 0.0)


@pytest.fixture(autouse=True)
def _no_budgets_of_earlier_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin without knowledge of rate limits: a later server may have the port of an earlier one."""
    from airflow_provider_voucherify.client import budgets

    monkeypatch.setattr(budgets, "_of_projects", {})
    monkeypatch.setattr(budgets, "CLOCK_MARGIN", 0.05)


@pytest.fixture
def voucherify(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
    """
    A local Voucherify, with the connection ``voucherify_default`` leading to it.

    Afterwards every request that it received is held against the contract.
    """
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, keep_bodies=True) as server:
        connect(monkeypatch, server)
        yield server
        openapi.assert_valid_requests(server.received)
