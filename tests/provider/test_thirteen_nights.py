"""
The nights of one sync as a data engineer has seen them: a wrong key, an outage, a kill, a clear, a state that is gone.

After each night the runs, the changelog, the state and Voucherify agree, and nothing that was in the history before has
changed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import clear_and_run, run_dag, try_again
from database_fixtures import connection_of
from installed import needs_store
from kept_history import Folder, Tables
from nights import Nights, date
from other_process import OtherProcess

from airflow_provider_voucherify.local_voucherify import DropBefore, LocalVoucherify
from airflow_provider_voucherify.local_voucherify.misbehaviour import Exchange
from airflow_provider_voucherify.operators import bulk
from airflow_provider_voucherify.task.operator_run import OperatorRun

TIERS = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold", "silver"]}}}


@dataclass
class KillSender:
    """Take a request, then kill the process that has sent it, which is ``pid``, before it has its answer."""

    pid: int = 0

    async def play(self, exchange: Exchange) -> None:
        async def discard(_: Any) -> None:
            pass

        await exchange.process(discard)
        os.kill(self.pid, signal.SIGKILL)
        await exchange.close_connection()


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb", "folder"])
def nights(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nights]:
    place: Tables | Folder = Folder(tmp_path / "state")
    if request.param != "folder":
        monkeypatch.setenv("AIRFLOW_CONN_KEPT", connection_of(request, tmp_path))
        place = Tables("kept", f"nights{time.time_ns()}")
    options: dict[str, Any] = {"metadata_schemas": {"customer": TIERS}, "keep_bodies": True}
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, **options) as server:
        connect(monkeypatch, server)
        yield Nights(server, place, f"nights_{request.param}")


def kill_while_sending(nights: Nights, night: int, dag: DAG) -> None:
    """Run a night's sync in a process that is killed when Voucherify has taken its second request."""
    killer = KillSender()
    nights.voucherify.misbehave("submit", killer, after=1)
    process = OtherProcess(lambda: run_dag(dag, logical_date=date(night)))
    killer.pid = process.pid
    assert process.run() == -signal.SIGKILL


def run_both(
    nights: Nights, dags: tuple[DAG, DAG], monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str]
) -> tuple[int, int]:
    """Run two nights' syncs, the second of them, in another process, while the first is at some function."""
    first, second = nights.begin("success"), nights.begin("success")
    other = OtherProcess(lambda: run_dag(dags[1], logical_date=date(second)))
    there: Callable[..., Any] = getattr(*where)
    ends: list[int] = []

    def meanwhile(*args: Any) -> Any:
        if not ends:
            ends.append(other.run())
        return there(*args)

    with monkeypatch.context() as patch:
        patch.setattr(*where, meanwhile)
        nights.run(first, dags[0])
    assert ends == [0]
    return first, second


@needs_store
@pytest.mark.usefixtures("defer_at_once")
def test_thirteen_nights(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    voucherify = nights.voucherify
    nights.rows = [{"id": f"c{n:02}", "name": f"Name {n}", "tier": "gold", "optin": "Y"} for n in range(30)]
    nights.change("c07", "c08", "c29", tier="tin")
    nights.rows.append({"id": "c03", "name": "The later one", "tier": "silver", "optin": "Y"})
    nights.rows.append({"id": None, "name": "Nobody", "tier": "gold", "optin": "Y"})

    # 1: some rows are bad.
    row = nights.night("success")
    assert (row["created"], row["failed"], row["refused"], row["superseded"]) == (27, 3, 1, 1)
    nights.all_is_there()

    # 2: a few rows have changed, and one of the bad ones is fixed; the task is deferred.
    nights.rows = [row for row in nights.rows if row["id"] is not None and row["name"] != "Name 3"]
    nights.change("c10", "c11", name="New name")
    nights.change("c08", tier="silver")
    nights.rows.append({"id": "c40", "name": "New", "tier": "gold", "optin": "Y"})
    row = nights.night("success", deferrable=True)
    second_night = nights.last
    assert second_night is not None
    assert (row["updated"], row["created"], row["failed"], row["unchanged"]) == (2, 2, 2, 25)
    nights.all_is_there()

    # 3: the key is wrong.
    nights.change("c12", name="Not sent at once")
    with monkeypatch.context() as patch:
        wrong = json.loads(os.environ["AIRFLOW_CONN_VOUCHERIFY_DEFAULT"]) | {"password": "a-key-of-another-project"}
        patch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(wrong))
        row = nights.night("failed")
    assert (row["error_type"], "does not accept" in row["advice"]) == ("VoucherifyAuthenticationError", True)

    # 4: a column has another name.
    renamed = {"records": [tuple(row.values()) for row in nights.rows], "columns": ["id", "name", "teir", "optin"]}
    row = nights.night("failed", **renamed)
    assert "did you mean 'teir'" in row["error_message"]

    # 5: Voucherify cannot be reached; the second try is sent.
    voucherify.misbehave("submit", DropBefore(), times=None)
    row = nights.night("failed", "success", retries=1, on_retry_callback=lambda _: voucherify.behave())
    assert (row["succeeded"], row["failed"], row["unchanged"]) == (1, 2, 28)
    nights.all_is_there()

    # 6: three of ten rows are bad, one of them for the first time of many.
    bad = [f"c{n:02}" for n in range(14, 24)]
    nights.change(*bad, tier="tin")
    nights.change("c24", "c25", name="Good among the bad")
    row = nights.night("failed")
    assert (row["updated"], row["failed"], row["error_type"]) == (2, 12, "VoucherifyRecordsFailedError")
    assert "failed of fail_if is 5" in row["exceeded"]
    nights.all_is_there()

    # 7: all but one of them are fixed, and the process is killed while it sends; the next try goes on.
    nights.change(*bad[1:], tier="silver")
    nights.change(*(f"c{n:02}" for n in range(4)), name="Sent before the kill")
    dag = nights.dag(retries=1)
    night = nights.begin("running")
    kill_while_sending(nights, night, dag)
    nights.check(night)
    nights.tries[night] = ["lost", "success"]
    nights.note_source(night, 2)
    posts = len(voucherify.actions)
    try_again(dag, date(night))
    row = nights.check(night)
    assert (row["succeeded"], row["failed"]) == (13, 3)
    assert (row["resubmitted"], len(voucherify.actions)) == (1, posts + 1)
    nights.all_is_there()

    # 8: a process is killed, and nobody tries again.
    nights.change(*(f"c{n:02}" for n in range(10)), name="Sent by a run that is never heard of again")
    nights.rows.append({"id": "c41", "name": "New", "tier": "gold", "optin": "Y"})
    night = nights.begin("running")
    kill_while_sending(nights, night, nights.dag())
    nights.check(night)

    # 9: the next night sends all that nobody knows of.
    row = nights.night("success")
    assert (row["succeeded"], row["failed"], row["refused"], row["unchanged"]) == (10, 2, 1, 19)
    assert "max_attempts" in row["failures_by_key"], "a record that has failed in five nights as it is"
    nights.all_is_there()

    # 10: somebody clears the second night. It sends again what no later run has confirmed, and changes no row.
    clear_and_run(nights.dag(), second_night)
    nights.tries[2].append("success")
    nights.note_source(2, 2)
    row = nights.check(2)
    assert (row["updated"], row["failed"], row["refused"]) == (3, 2, 1)
    nights.all_is_there()

    # 11: the state is gone.
    nights.place.forget_state()
    nights.failing.clear()
    row = nights.night("success")
    assert "is gone" in row["warning"]
    assert (row["updated"], row["created"], row["failed"]) == (29, 0, 3)
    nights.all_is_there()

    # 12 and 13: two at once; the second begins when the first has read its rows, and ends before the first sends.
    nights.change("c07", "c14", "c29", tier="gold")
    nights.change("c00", "c01", "c02", name="Old")
    nights.rows.append({"id": "c50", "name": "Old", "tier": "gold", "optin": "Y"})
    old = nights.dag()
    nights.change("c01", "c02", "c50", name="Newer")
    first, second = run_both(nights, (old, nights.dag()), monkeypatch, (bulk, "log_plan"))
    nights.sources[first, 1] = [dict(row) for row in old.get_task("sync").records]
    row = nights.check(first)
    assert (row["succeeded"], "another run of this sync" in row["warning"]) == (7, True)
    assert (nights.check(second)["succeeded"], voucherify.customers["c50"]["name"]) == (7, "Old")

    # 14: the next night makes it right.
    sent = 7 if isinstance(nights.place, Folder) else 3  # a table knows that the first was the last to send the others
    assert nights.night("success")["succeeded"] == sent
    nights.all_is_there()

    # 15 and 16: two at once again; the second begins when the first has sent its rows.
    nights.change("c03", "c04", name="Older")
    old = nights.dag()
    nights.change("c04", name="Newest")
    first, second = run_both(nights, (old, nights.dag()), monkeypatch, (OperatorRun, "announce"))
    nights.sources[first, 1] = [dict(row) for row in old.get_task("sync").records]
    assert "another run of this sync" in nights.check(first)["warning"]
    nights.check(second)

    # 17: values have become empty, and somebody has deleted a record at Voucherify, which is created anew.
    nights.change("c20", "c21", "c22", optin=None)
    nights.change("c26", name="Deleted in the meantime")
    voucherify.customers.remove("c26")
    nights.known.discard("c26")
    row = nights.night("success", deferrable=True)
    assert (row["created"], row["values_not_cleared"]) == (1, 3)
    assert "1 record that an earlier sync had confirmed had to be created anew" in row["warning"]
    assert "metadata.optin (3)" in row["warning"]
    assert voucherify.customers["c20"]["metadata"]["optin"] == "Y"
    nights.all_is_there()

    # 18: nothing has changed, but what became empty is still told.
    row = nights.night("success")
    assert (row["unchanged"], row["requests"], row["values_not_cleared"]) == (33, 0, 3)
    assert "metadata.optin (3)" in row["warning"]
    nights.all_is_there()

    # 19: everything is sent.
    row = nights.night("success", full_refresh=True, null_policy={"optin": "send"})
    assert (row["updated"], row["unchanged"], row["values_not_cleared"], row["warning"]) == (33, 0, 0, None)
    assert voucherify.customers["c20"]["metadata"]["optin"] is None
    nights.all_is_there()
    assert all(state["content"] is not None for state in nights.kept.states.values())
