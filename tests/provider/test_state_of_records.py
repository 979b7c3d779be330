"""The state of earlier syncs never says more than Voucherify has said, and is nobody else's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook, ObjectStoragePath
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, folder_of, run_dag, with_state
from installed import needs_store

from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import VoucherifyNoAnswerError
from airflow_provider_voucherify.operators import bulk
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.policies import State
from airflow_provider_voucherify.sync.sending.submission import Submission
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
from airflow_provider_voucherify.task.operator_run import OperatorRun
from airflow_provider_voucherify.task.row_tracking import RowTracking

TIERS = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold", "silver"]}}}

MARKS: dict[str, Any] = {"on_removed": {"metadata": {"active": False}}, "max_removed_ratio": None}


@pytest.fixture(params=["object storage", "tables"])
def books(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the state is kept."""
    if request.param == "object storage":
        return {"state": {"path": f"{request.getfixturevalue('bucket')}/sync"}}
    kept: dict[str, Any] = request.getfixturevalue("tables")
    return kept


@pytest.fixture(params=["object storage", "local disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("bucket") if request.param == "object storage" else str(tmp_path)


@pytest.fixture
def strict_voucherify(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas={"customer": TIERS}) as server:
        connect(monkeypatch, server)
        yield server


def night(records: list[dict[str, Any]] | None, dag_id: str = "nightly", **kwargs: Any) -> DagRunResult:
    resource = kwargs.pop("resource", "customers")
    operator = VoucherifyBulkMetadataOperator if resource == "vouchers" else VoucherifyBulkUpdateOperator
    with DAG(dag_id, schedule=None) as dag:
        operator(task_id="sync", resource=resource, records=records, fail_if={"failed": None}, **kwargs)
    return run_dag(dag)


def test_a_voucher_that_is_only_counted_as_done_is_sent_until_it_is_known_to_exist(
    books: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor's older examples count codes that do not exist as done, and the report may be out of reach."""
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, missing_vouchers="done") as server:
        connect(monkeypatch, server)
        server.add_voucher("OLD")
        server.misbehave("report", Status(403, {"message": "no"}), times=None)
        rows = [{"code": "OLD", "tier": "gold"}, {"code": "LATE", "tier": "gold"}]
        first = night(rows, resource="vouchers", **books).xcom("sync")
        server.add_voucher("LATE")
        server.behave()

        second = night(rows, resource="vouchers", **books).xcom("sync")
        third = night(rows, resource="vouchers", **books).xcom("sync")

    assert (first["succeeded"], first["updated"]) == (2, None)
    assert second["updated"] == 2
    assert third["unchanged"] == 2
    assert server.vouchers["LATE"]["metadata"] == {"tier": "gold"}


def test_a_value_that_became_empty_is_told_every_night_until_it_is_cleared(
    books: dict[str, Any], voucherify: LocalVoucherify
) -> None:
    """Consent that is withdrawn by NULL: "in sync" would be a lie about the one field with lawyers behind it."""
    books = books | {"mapping": {"id": "source_id", "name": "name", "optin": "metadata.consent"}}
    before = [{"id": f"c{number}", "name": "Ann", "optin": "Y"} for number in range(4)]
    after = [{"id": f"c{number}", "name": None if number == 3 else "Ann", "optin": None} for number in range(4)]

    first = night(before, **books).xcom("sync")
    changed = night(after, **books).xcom("sync")
    unchanged = night(after, **books).xcom("sync")
    narrower = books | {"mapping": {"id": "source_id", "optin": "metadata.consent"}}
    cleared = night(after, **narrower, null_policy={"optin": "send"}).xcom("sync")

    assert (first["values_not_cleared"], first["warning"]) == (0, None)
    assert (changed["updated"], unchanged["unchanged"]) == (4, 4)
    for told in (changed, unchanged):
        assert told["values_not_cleared"] == 5
        assert "metadata.consent (4), name (1); null_policy={'optin': 'send'} sends null for them" in told["warning"]
    assert (cleared["values_not_cleared"], voucherify.customers["c0"]["metadata"]) == (0, {"consent": None})
    if "conn_id" in books["state"]:
        hook = BaseHook.get_hook("books")
        runs = "SELECT values_not_cleared FROM voucherify_runs ORDER BY finished_at"
        assert [row[0] for row in hook.get_records(runs)] == [0, 5, 5, 0]
        assert hook.get_records("SELECT count(*) FROM voucherify_state WHERE not_cleared IS NOT NULL")[0][0] == 0


def test_without_a_state_nobody_knows_what_became_empty(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    summary = night(
        [{"source_id": "a", "tier": None}],
    ).xcom("sync")

    assert summary["values_not_cleared"] is None


def test_a_record_that_was_found_and_not_written_is_sent_again(
    books: dict[str, Any], voucherify: LocalVoucherify
) -> None:
    rows = [{"source_id": "a", "tier": "gold"}, {"source_id": "b", "tier": "gold"}]
    content = b"source_id,found,updated\na,true,true\nb,true,false\n"
    voucherify.next_actions(applies_records=False, result_fields={"done_count": 1, "failed_count": 0})
    voucherify.misbehave("report", Status(200, content), times=1)

    first = night(rows, **books).xcom("sync")
    second = night(rows, **books).xcom("sync")

    assert (first["updated"], first["unchanged"], first["not_reported"]) == (1, 0, 1)
    assert second["submitted"] == 1
    assert voucherify.customers["b"]["metadata"] == {"tier": "gold"}


def test_tasks_that_share_a_folder_have_a_state_each(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    """Two tasks that shared a state would each take the other's records for removed."""
    shared = {"state": {"path": str(tmp_path), "on_removed": "report", "max_removed_ratio": None}}
    night([{"source_id": f"c{number}"} for number in range(10)], "one", **shared)

    other = night([{"source_id": "p1"}, {"source_id": "p2"}], "another", **shared).xcom("sync")
    resource = night([{"source_id": "p1"}], "one", resource="products", **shared).xcom("sync")

    assert (other["removed"], resource["removed"]) == (0, 0)
    assert (other["created"], resource["created"]) == (2, 1)


def test_a_dot_in_a_name_makes_no_two_syncs_one(voucherify: LocalVoucherify, books: dict[str, Any]) -> None:
    """A task ``c`` of the DAG ``a.b`` is not the task ``c`` of the group ``b`` in the DAG ``a``."""
    marking = with_state(books, **MARKS)
    for dag_id, task_id, record_id in (("a.b", "c", "c1"), ("a", "b.c", "c2")):
        with DAG(dag_id, schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id=task_id, resource="customers", records=[{"source_id": record_id}], **marking
            )
        summary = run_dag(dag).xcom(task_id)
        assert (summary["created"], summary["removed"]) == (1, 0)

    assert not voucherify.customers["c1"].get("metadata")


def test_a_voucher_that_may_be_missing_is_sent_every_night_until_it_is_there(
    voucherify: LocalVoucherify, books: dict[str, Any]
) -> None:
    """However often: a record that fails as expected has not failed too often."""
    fail_if = {"failed": 0, "expected_keys": ["not_found"]}
    row = {"code": "LATE", "tier": "gold"}

    def tonight() -> DagRunResult:
        with DAG("expecting", schedule=None) as dag:
            VoucherifyBulkMetadataOperator(
                task_id="sync",
                resource="vouchers",
                records=[row],
                fail_if=fail_if,
                requests={"max_attempts": 2},
                **books,
            )
        return run_dag(dag)

    nights = [tonight() for _ in range(4)]
    voucherify.add_voucher("LATE")
    last = tonight()

    assert [night.state for night in nights] == ["success"] * 4
    assert [night.xcom("sync")["failures_by_key"] for night in nights] == [{"not_found": 1}] * 4
    assert last.xcom("sync")["updated"] == 1


def test_the_file_of_another_sync_is_refused(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    shared = {"state": {"path": str(tmp_path)}}
    night([{"source_id": "c1"}], "one", **shared)
    night([{"source_id": "c1"}], "another", **shared)
    copied = Path(folder_of(tmp_path, "one"), "state").read_bytes()
    Path(folder_of(tmp_path, "another"), "state").write_bytes(copied)

    assert night([{"source_id": "c1"}], "another", **shared).state == "failed"
    assert Path(folder_of(tmp_path, "another"), "state").read_bytes() == copied


def test_a_run_that_another_one_overtakes_confirms_nothing(
    place: str, voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one begins while this one has read its rows and not sent them yet, and it dies when it has sent its."""
    kept = {"state": {"path": place}}
    rows = [{"source_id": "r", "v": 1}, {"source_id": "s", "v": 1}]
    night(rows, **kept)

    def overtake(plan: Any, log: Any) -> None:
        monkeypatch.undo()
        connect(monkeypatch, voucherify)
        other = row_tracking(kept)
        with Ledger("another run", "settings") as ledger:
            other.load_state(ledger)
            ledger.add_records(["r"], [b"{}"])
            other.before_sending(ledger)
        voucherify.customers["r"]["metadata"] = {"v": 0}

    monkeypatch.setattr(bulk, "log_plan", overtake)
    rows[1]["v"] = 2
    overtaken = night(rows, **kept).xcom("sync")
    following, last = (night(rows, **kept).xcom("sync") for _ in range(2))

    assert (overtaken["submitted"], overtaken["unchanged"]) == (1, 1)
    assert "another run of this sync" in overtaken["warning"]
    assert (following["submitted"], following["warning"]) == (2, None)
    assert last["unchanged"] == 2
    assert [voucherify.customers[name]["metadata"]["v"] for name in "rs"] == [1, 2]


def row_tracking(arguments: dict[str, Any]) -> RowTracking:
    """Return what another run of the sync has at hand."""
    ti = SimpleNamespace(dag_id="nightly", task_id="sync", run_id="another", map_index=-1)
    context: Any = {"ti": ti}
    return RowTracking.of(State.of("state", arguments["state"]), "customers", context, name_is_shared=True)


def send_and_die(voucherify: LocalVoucherify, books: dict[str, Any]) -> None:
    """Do what another run of the sync does that sends an older content of two records, and is not heard of any more."""
    other = row_tracking(books)
    with Ledger("another run", "settings") as ledger:
        other.load_state(ledger)
        ledger.add_records(["r", "s"], [b"{}", b"{}"])
        other.before_sending(ledger)
    for record_id in "rs":
        voucherify.customers[record_id]["metadata"] = {"v": 0}


def let_another_run_send_next(
    voucherify: LocalVoucherify, books: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let another run of the sync ``send_and_die`` when the next one has sent its rows."""

    def overtake(*_: Any) -> None:
        monkeypatch.undo()
        connect(monkeypatch, voucherify)
        if "conn_id" in books["state"]:
            monkeypatch.setenv("AIRFLOW_CONN_BOOKS", books_connection)
        send_and_die(voucherify, books)

    books_connection = os.environ.get("AIRFLOW_CONN_BOOKS", "")
    monkeypatch.setattr(OperatorRun, "announce", overtake)


def test_a_run_confirms_nothing_that_another_one_has_sent_after_it(
    books: dict[str, Any], voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one begins when this one has sent its rows, and finds no confirmation that it could take away."""
    rows = [{"source_id": "r", "v": 1}, {"source_id": "s", "v": 1}]
    night(rows, **books)
    for row in rows:
        row["v"] = 2

    let_another_run_send_next(voucherify, books, monkeypatch)
    overtaken, following, last = (night(rows, **books).xcom("sync") for _ in range(3))

    assert (overtaken["updated"], "another run of this sync" in overtaken["warning"]) == (2, True)
    assert (following["submitted"], following["warning"]) == (2, None)
    assert last["unchanged"] == 2
    assert [voucherify.customers[name]["metadata"]["v"] for name in "rs"] == [2, 2]


@needs_store
def test_a_retry_sends_again_what_another_run_has_sent_since(
    books: dict[str, Any], voucherify: LocalVoucherify
) -> None:
    """What the first try has sent was done; the state must not say that Voucherify has it still."""
    rows = [{"source_id": "r", "v": 1}, {"source_id": "s", "v": 1}]
    night(rows, **books)
    for row in rows:
        row["v"] = 2

    def between_tries(context: Any) -> None:
        voucherify.behave()
        send_and_die(voucherify, books)

    voucherify.misbehave("poll", Status(500), times=None)
    again = {"retries": 1, "retry_delay": timedelta(0), "on_retry_callback": between_tries}
    retried = night(rows, completion_timeout=0.2, **again, **books).xcom("sync")
    following = night(rows, **books).xcom("sync")

    assert (retried["succeeded"], retried["resubmitted"]) == (2, 1)
    assert following["unchanged"] == 2
    assert [voucherify.customers[name]["metadata"]["v"] for name in "rs"] == [2, 2]


@needs_store
def test_what_another_run_has_sent_is_not_forgotten_by_a_try_that_dies(
    books: dict[str, Any], voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try has written its own name over that of the other run when it dies."""
    rows = [{"source_id": "r", "v": 1}, {"source_id": "s", "v": 1}]
    night(rows, **books)
    for row in rows:
        row["v"] = 2
    tries: list[int] = []
    send = Submission.run

    def send_or_die(submission: Submission) -> SubmittedSync:
        tries.append(len(tries) + 1)
        if len(tries) == 2:
            raise VoucherifyNoAnswerError("the second try dies")
        return send(submission)

    def between_tries(context: Any) -> None:
        if len(tries) == 1:
            voucherify.behave()
            send_and_die(voucherify, books)

    monkeypatch.setattr(Submission, "run", send_or_die)
    voucherify.misbehave("poll", Status(500), times=None)
    again = {"retries": 2, "retry_delay": timedelta(0), "on_retry_callback": between_tries}
    retried = night(rows, completion_timeout=0.2, **again, **books).xcom("sync")

    assert (len(tries), retried["succeeded"], retried["resubmitted"]) == (3, 2, 1)
    assert [voucherify.customers[name]["metadata"]["v"] for name in "rs"] == [2, 2]


def test_a_record_that_another_run_has_sent_is_marked_as_removed_again(
    books: dict[str, Any], voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    removing = with_state(books, **MARKS)
    night([{"source_id": "r", "v": 1}, {"source_id": "s", "v": 1}], **removing)

    let_another_run_send_next(voucherify, books, monkeypatch)
    overtaken = night([{"source_id": "r", "v": 2}], **removing).xcom("sync")
    following, last = (night([{"source_id": "r", "v": 2}], **removing).xcom("sync") for _ in range(2))

    assert (overtaken["removed_to_mark"], "another run of this sync" in overtaken["warning"]) == (1, True)
    assert (following["removed_to_mark"], voucherify.customers["s"]["metadata"]["active"]) == (1, False)
    assert (last["unchanged"], last["removed_to_mark"]) == (1, 0)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A state in a database, which ``execute`` changes behind the sync's back."""
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "books.db")}))
    return {"state": {"conn_id": "books"}}


def execute(statement: str) -> list[Any]:
    hook = BaseHook.get_hook("books")
    with closing(hook.get_conn()) as connection:
        rows = connection.execute(statement).fetchall()
        connection.commit()
    return list(rows)


def test_an_id_that_a_database_has_changed_is_nobody(voucherify: LocalVoucherify, tables: dict[str, Any]) -> None:
    """As SQL Server's varchar and a latin1 database of MySQL do: marking ``??`` as removed would create it."""
    rows = [{"source_id": "c1"}, {"source_id": "c2"}, {"source_id": "顧客"}]
    night(rows, **tables)
    execute("UPDATE voucherify_state SET record_id = '??' WHERE record_id = '顧客'")

    second = night(rows, **with_state(tables, **MARKS)).xcom("sync")

    assert sorted(voucherify.customers) == ["c1", "c2", "顧客"]
    assert (second["submitted"], second["unchanged"], second["removed"]) == (1, 2, 0)
    assert "1 row of the state" in second["warning"]
    assert execute("SELECT warning FROM voucherify_runs ORDER BY finished_at")[-1][0] == second["warning"]


def test_records_that_come_back_while_they_are_marked_are_told(
    voucherify: LocalVoucherify, tables: dict[str, Any]
) -> None:
    def on(*ids: str, **more: Any) -> dict[str, Any]:
        rows = [{"source_id": record_id, **more} for record_id in ids]
        summary: dict[str, Any] = night(rows, **with_state(tables, **MARKS)).xcom("sync")
        return summary

    on("c1", "c2", "c3")
    on("c1")

    third = on("c1", "c2")

    assert "1 record is in the source again and still marked as removed" in third["warning"]
    assert voucherify.customers["c2"]["metadata"]["active"] is False

    fourth = on("c1", "c2", "c3", active=True)

    assert fourth["warning"] is None
    assert voucherify.customers["c3"]["metadata"]["active"] is True


@pytest.mark.parametrize("nobody", [" ", "\0c2"], ids=["blank", "NUL"])
def test_a_row_whose_id_says_nothing_could_be_anyone_s(
    voucherify: LocalVoucherify, books: dict[str, Any], nobody: str
) -> None:
    books = with_state(books, **MARKS)
    night([{"source_id": "c1"}, {"source_id": "c2"}], **books)

    second = night([{"source_id": "c1"}, {"source_id": nobody}], **books).xcom("sync")

    assert (second["refused"], second["unchanged"], second["submitted"]) == (1, 1, 0)
    assert "rows without an id, which could belong to any record" in second["warning"]
    assert not voucherify.customers["c2"].get("metadata")


def test_a_line_that_could_be_anyone_s_is_named(
    voucherify: LocalVoucherify, books: dict[str, Any], tmp_path: Path
) -> None:
    books = with_state(books, **MARKS)
    night([{"source_id": "c1"}, {"source_id": "c2"}], **books)
    source = tmp_path / "customers.jsonl"
    source.write_text('{"source_id": "c1"}\n\n{"source_id": "c\n[]\n')

    second = night(None, path=str(source), **books).xcom("sync")

    assert (second["refused"], second["unchanged"], second["submitted"]) == (2, 1, 0)
    assert "no record counts as removed (2; the first is row 2: line 3 is not valid JSON: " in second["warning"]


def test_a_state_that_is_gone_is_told_if_there_were_runs(voucherify: LocalVoucherify, tables: dict[str, Any]) -> None:
    first = night([{"source_id": "a"}], **tables).xcom("sync")
    execute("DELETE FROM voucherify_state")
    second = night([{"source_id": "a"}], **tables).xcom("sync")

    assert first["warning"] is None
    assert second["submitted"] == 1
    assert "the state of earlier syncs is gone" in second["warning"]


def test_a_state_file_that_is_gone_is_told_if_an_earlier_run_has_written_it(
    voucherify: LocalVoucherify, place: str
) -> None:
    kept = {"state": {"path": place}}
    first = night([{"source_id": "a"}], "gone", **kept).xcom("sync")
    ObjectStoragePath(f"{folder_of(place, 'gone')}/state").unlink()
    second = night([{"source_id": "a"}], "gone", **kept).xcom("sync")
    elsewhere = night([{"source_id": "a"}], "gone", state={"path": f"{place}/elsewhere"}).xcom("sync")

    assert (first["warning"], elsewhere["warning"]) == (None, None)
    assert "the state of earlier syncs is gone" in second["warning"]


def test_a_record_that_was_deleted_at_voucherify_is_told(books: dict[str, Any], voucherify: LocalVoucherify) -> None:
    night([{"source_id": "a", "v": 1}, {"source_id": "b", "v": 1}], **books)
    voucherify.customers.remove("a")

    second = night([{"source_id": "a", "v": 2}, {"source_id": "b", "v": 2}, {"source_id": "c"}], **books).xcom("sync")

    assert (second["created"], second["updated"]) == (2, 1)
    assert "1 record that an earlier sync had confirmed had to be created anew" in second["warning"]


def test_syncs_of_two_resources_may_have_one_name_in_the_tables(
    voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "books.db")}))
    shared = {
        "state": {
            "conn_id": "books",
            "sync_name": "shop",
            **MARKS,
        },
    }
    for _ in range(2):
        customers = night([{"source_id": f"{number}"} for number in range(3)], "customers", **shared).xcom("sync")
        products = night([{"source_id": "1", "name": "One"}], "products", resource="products", **shared).xcom("sync")

    assert [(summary["unchanged"], summary["removed"]) for summary in (customers, products)] == [(3, 0), (1, 0)]
    assert (len(voucherify.customers), len(voucherify.products)) == (3, 1)


def test_no_record_of_another_project_is_marked_in_this_one(
    books: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marking upserts: the records that only the old project has would come into being in the new one."""
    books = with_state(books, **MARKS)
    rows = [{"source_id": f"c{number}", "tier": "gold"} for number in range(4)]
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY) as old:
        connect(monkeypatch, old)
        night(rows, **books)
    with LocalVoucherify(app_id="the-new-project", secret_key=SECRET_KEY) as new:
        monkeypatch.setenv(
            "AIRFLOW_CONN_VOUCHERIFY_DEFAULT",
            json.dumps(
                {
                    "conn_type": "voucherify",
                    "host": new.base_url,
                    "login": "the-new-project",
                    "password": SECRET_KEY,
                    "extra": {"poll_interval": 0.02},
                }
            ),
        )
        moved = night(rows[:3], **books).xcom("sync")
        later = night(rows[:2], **books).xcom("sync")

    assert (moved["created"], moved["removed"]) == (3, 0)
    assert later["removed"] == 1, "of the records that the new project has, one has left"
    assert sorted(new.customers) == ["c0", "c1", "c2"]


def test_a_record_that_is_gone_at_voucherify_too_is_marked_once(
    books: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    books = with_state(books, **MARKS)
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY) as server:
        connect(monkeypatch, server)
        for code in ("KEPT", "GONE"):
            server.add_voucher(code)
        night([{"code": "KEPT", "n": 1}, {"code": "GONE", "n": 1}], resource="vouchers", **books)
        server.reset()
        server.add_voucher("KEPT")

        nights = [night([{"code": "KEPT", "n": 1}], resource="vouchers", **books).xcom("sync") for _ in range(3)]

    assert [summary["failed"] for summary in nights] == [1, 0, 0]
    assert [summary["removed"] for summary in nights] == [1, 0, 0]


@needs_store
def test_a_retry_does_not_take_its_own_runs_success_for_a_later_syncs(
    books: dict[str, Any], strict_voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    lines = [
        {
            "source_id": f"c{number}",
            "metadata": {"tier": "tin" if number == 0 else "gold"},
            "_failure": {"form": "record", "outcome": "failed", "attempts": 1, "at": 1.0},
        }
        for number in range(10)
    ]
    failures = tmp_path / "failures.jsonl"
    failures.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with DAG("redrive", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            path=str(failures),
            fail_if={"failed": 0},
            on_retry="resend_failed",
            retries=1,
            retry_delay=timedelta(0),
            **books,
        )

    summary = run_dag(dag).xcom("sync")

    assert (summary["created"], summary["failed"], summary["superseded"]) == (9, 1, 0)


@needs_store
def test_a_try_whose_action_came_to_nothing_takes_no_attempt_back(
    strict_voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    rows = [{"source_id": "c1", "tier": "tin"}]
    kept: dict[str, Any] = {
        "requests": {"max_attempts": 2},
        "state": {"path": str(tmp_path / "state")},
    }
    night(rows, **kept)
    strict_voucherify.next_actions(status="FAILED", applies_records=False)
    with DAG("nightly", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=rows, retries=1, retry_delay=timedelta(0), **kept
        )
    run_dag(dag)

    third = night(rows, **kept).xcom("sync")

    assert len(strict_voucherify.actions) == 3
    assert third["refused"] == 1


def test_an_id_that_no_database_can_keep_is_refused(books: dict[str, Any], voucherify: LocalVoucherify) -> None:
    summary = night([{"source_id": "a\0b"}, {"source_id": "c"}], **books).xcom("sync")

    assert (summary["refused"], summary["created"]) == (1, 1)
    assert "NUL" in summary["failures"][0]["message"]


def test_an_action_that_did_nothing_is_no_success_whatever_it_says(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(
        applies_records=False,
        operation_status="SUCCESS",
        result_fields={"done_count": 0, "failed_count": 0, "errors": [], "reports": []},
    )

    summary = night([{"source_id": "a"}]).xcom("sync")

    assert summary["failed"] == 1
    assert summary["failed_async_action_ids"] == summary["async_action_ids"]
