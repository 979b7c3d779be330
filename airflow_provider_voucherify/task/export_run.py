"""One run of an export operator: creates an export or goes on with one, waits for it, and writes its rows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from tempfile import TemporaryFile
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_voucherify.compat import AirflowFailException, get_task_state_store, pages
from airflow_provider_voucherify.exceptions import VoucherifyTooFewRowsError
from airflow_provider_voucherify.links.async_action import DASHBOARD_XCOM_KEY, FILE_XCOM_KEY, report_url
from airflow_provider_voucherify.models.endpoints import EXPORTS_PATH, dashboard_url
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyExportError,
    VoucherifyNotFoundError,
    VoucherifyTaskKilledError,
    VoucherifyTransportError,
    is_permanent,
)
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.task.completion import KILLED_SECONDS, Completion, after_exit
from airflow_provider_voucherify.task.conclusion import keep_summary, limits_of
from airflow_provider_voucherify.task.export_journal import Created, ExportJournal
from airflow_provider_voucherify.task.export_parameters import destination_of, request_of
from airflow_provider_voucherify.task.operator_run import attempt_of, end_time_of, project_digest
from airflow_provider_voucherify.task.parameters import poll_interval_of
from airflow_provider_voucherify.task.resumption import timeout
from airflow_provider_voucherify.task.run import TaskRun

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.calls import Call
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.models.exports import Export
    from airflow_provider_voucherify.sync.results.export_summary import ExportSummary

EXPORT_XCOM_KEY = "voucherify_export_id"


class ExportRun(TaskRun):
    """
    A ``TaskRun`` of an export. A context manager: an error on the way out says whether a retry needs a new export.

    What a retry cannot fix, such as a wrong key, fails the task for good.

    :param task: the operator, its templates rendered.
    :param is_killed: says whether ``on_kill`` has been called.
    """

    def __init__(self, task: Any, context: Context, is_killed: Callable[[], bool]) -> None:
        super().__init__(task, context, task.exported_object)
        self._is_killed = is_killed
        self._started = time.time()
        self._journal: ExportJournal | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, VoucherifyExportError | VoucherifyNotFoundError) and self._journal is not None:
            self._journal.forget()
        super().__exit__(kind, error, traceback)
        if isinstance(error, VoucherifyError) and is_permanent(error):
            raise AirflowFailException(str(error)) from error

    def execute(self) -> dict[str, Any]:
        """Create the export, unless an earlier try has, and wait for it; or leave the worker."""
        self._task.summary = None
        for key in (DASHBOARD_XCOM_KEY, FILE_XCOM_KEY, EXPORT_XCOM_KEY):
            self.context["ti"].xcom_push(key=key, value="")
        destination_of(self._task).check()
        with self.hook() as hook:
            created = self._created(hook)
            self._announce(hook, created)
            end_time = end_time_of(self._task, time.time(), self._started)
            client = hook.get_conn().waiting_at_most(lambda: max(Completion.rate_limit_seconds, end_time - time.time()))
            if not self._wait(client, created, end_time):
                self._defer(client, created, end_time)
            return self._receive(client, created)

    def resume(self, event: dict[str, Any] | None) -> dict[str, Any]:
        """Go on after a trigger's event."""
        status, message, created, end_time = _read(event)
        if status == "timeout":
            raise timeout(message or "time is up")
        with self.hook() as hook:
            self._journal = self._journal_of(hook)
            client = hook.get_conn().waiting_at_most(lambda: max(Completion.rate_limit_seconds, end_time - time.time()))
            if status == "unreachable":
                self._log.warning("The trigger gave up polling, so this worker polls: %s", message)
                if not self._poll(client, created):
                    raise VoucherifyTransportError(
                        f"the triggerer cannot poll the export ({message}), though this worker can"
                    )
            return self._receive(client, created)

    def _journal_of(self, hook: VoucherifyHook) -> ExportJournal:
        store, attempt = get_task_state_store(self.context), attempt_of(self._task, self.context)
        return ExportJournal(store, attempt, project_digest(hook), request_of(self._task))

    def _created(self, hook: VoucherifyHook) -> Created:
        """Return the export of an earlier try, or create one."""
        from airflow_provider_voucherify.client.exports import create_export

        request = create_export(**request_of(self._task))
        journal = self._journal = self._journal_of(hook)
        if (found := journal.find()) is not None:
            self._log.info("An earlier try has created the export %s; this one goes on with it", found.export_id)
            return found
        if self._is_killed():
            raise VoucherifyTaskKilledError("before it created an export")
        if (asked_at := journal.asked_at()) is not None and (
            created := self._not_answered(hook, request, asked_at)
        ) is not None:
            self._log.info("An earlier try has asked for the export %s, and got no answer", created.export_id)
        else:
            created_at = math.floor(time.time() * 1000) / 1000  # as exact as Voucherify's times are
            journal.ask(created_at)
            created = Created(hook.get_conn().send(request).id, created_at)
            self._log.info("Created the export %s of %s objects", created.export_id, self._task.exported_object)
        journal.keep(created)
        return created

    def _not_answered(self, hook: VoucherifyHook, request: Call[Export], asked_at: float) -> Created | None:
        """
        Look for an export that was asked for and whose creation was not answered.

        One of the same object and with exactly the same parameters that was created since then is as good, whoever has
        made it. If Voucherify shows parameters otherwise than they were given, none is found.
        """
        from airflow_provider_voucherify.client.exports import list_exports
        from airflow_provider_voucherify.models.times import epoch

        body: Any = request.body
        asked = json.loads(b"".join(body))
        parameters = _comparable(asked.get("parameters"))
        try:
            newest = hook.get_conn().send(list_exports(order="-created_at")).exports
        except VoucherifyError as error:
            self._log.warning("Whether an earlier try has created an export cannot be found out: %s", error)
            return None
        for export in newest:
            same = export.exported_object == asked["exported_object"] and _comparable(export.parameters) == parameters
            if same and not export.has_failed and (epoch(export.created_at) or 0) >= asked_at:
                return Created(export.id, asked_at, resumed=True)
        return None

    def _announce(self, hook: VoucherifyHook, created: Created) -> None:
        """Put the links into XCom before waiting, so that a task that is killed has them."""
        task, ti = self._task, self.context["ti"]
        ti.xcom_push(key=EXPORT_XCOM_KEY, value=created.export_id)
        ti.xcom_push(key=DASHBOARD_XCOM_KEY, value=dashboard_url(hook.settings.base_url, EXPORTS_PATH))
        ti.xcom_push(
            key=FILE_XCOM_KEY, value="" if task.path is None else report_url(str(task.path).rpartition("/")[0])
        )

    def _wait(self, client: VoucherifyClient, created: Created, end_time: float) -> bool:
        """
        Poll from the worker until the export has ended; False if the task should be deferred.

        :raises VoucherifyCompletionTimeoutError: ``end_time`` has passed.
        """
        from airflow_provider_voucherify.sync.waiting.export_watch import ExportWatch
        from airflow_provider_voucherify.sync.waiting.waits import Wait

        defers = self._task.deferrable
        until = min(end_time, self._started + Completion.worker_seconds) if defers else end_time
        wait = Wait([created.export_id], created.created_at, until, poll_interval_of(self._task.poll_interval, client))
        watch = ExportWatch()
        watch.add(wait, time.time())
        while wait.end is None and (poll := watch.next_poll(now := time.time())) is not None:
            if poll.at >= until and defers:
                return False
            if self._is_killed():
                raise VoucherifyTaskKilledError("while it waited for its export")
            if poll.at > now:
                time.sleep(min(poll.at - now, KILLED_SECONDS))
                continue
            try:
                answer: Any = client.send(poll.call, max_rate_limit_wait=max(0.0, until - now))
            except VoucherifyError as error:
                watch.note_error(poll, error, now, time.time())
                if wait.end is not None and wait.end.status == "unreachable":
                    raise
                self._log.warning("A poll failed: %s", error)
            else:
                watch.note_answer(poll, answer, now, time.time())
                self._log.info("%s", watch.progress_of(wait))
        if wait.end is not None and wait.end.status == "finished":
            return True
        if defers and time.time() < end_time:
            return False
        raise timeout(f"the export {created.export_id} was not finished in time")

    def _poll(self, client: VoucherifyClient, created: Created) -> bool:
        from airflow_provider_voucherify.client.exports import get_export

        return client.send(get_export(created.export_id)).is_finished

    def _defer(self, client: VoucherifyClient, created: Created, end_time: float) -> NoReturn:
        from airflow_provider_voucherify.triggers.export import VoucherifyExportTrigger

        self._log.info("Waiting in the triggerer for the export %s", created.export_id)
        trigger = VoucherifyExportTrigger(
            self._task.voucherify_conn_id,
            created.export_id,
            created.created_at,
            end_time,
            poll_interval_of(self._task.poll_interval, client),
            not_before=after_exit(),
            state={"end_time": end_time, "resumed": created.resumed, "created_at": created.created_at},
        )
        self._task.defer(trigger=trigger, method_name="execute_complete")
        raise AssertionError("defer() has returned")

    def _receive(self, client: VoucherifyClient, created: Created) -> dict[str, Any]:
        """Fetch the file of the export, write its rows, and conclude."""
        from airflow_provider_voucherify.sync.results.export_summary import ExportSummary
        from airflow_provider_voucherify.sync.rows.exported_rows import ExportedRows

        task, waited = self._task, time.time() - created.created_at
        with TemporaryFile(prefix="voucherify-") as file:
            size = client.download_export(created.export_id, file)
            self._log.info("Received %s bytes of the export %s", f"{size:,}", created.export_id)
            file.seek(0)
            rows = ExportedRows(file, request_of(task)["fields"], self._check_alive)
            with destination_of(task).replaced_by(rows):
                summary = ExportSummary(
                    exported_object=task.exported_object,
                    export_id=created.export_id,
                    status="DONE",
                    rows=rows.count,
                    bytes=size,
                    columns=list(rows.columns),
                    path=None if task.path is None else str(task.path),
                    table=task.table,
                    seconds=round(time.time() - created.created_at, 3),
                    resumed=created.resumed,
                    warning="\n".join(self._exceeded(rows.count)) or None,
                    log_url=pages(self.context).log,
                )
                self._fail_if_too_few(summary)
        self.metrics.completion_waited(waited)
        self.metrics.rows_exported(rows.count)
        keep_summary(task, self.context, summary)
        if summary.warning is not None:
            self._log.warning("%s", summary.warning)
        self._log.info("%s", summary.text(link=False))
        return summary.as_xcom()

    def _exceeded(self, rows: int) -> Iterator[str]:
        for parameter in ("fail_if", "warn_if"):
            fewest = limits_of(self._task, parameter).rows_below
            if fewest is not None and rows < fewest:
                yield f"the export has {counted(rows, 'row')}, and rows_below of {parameter} is {fewest:,}"

    def _fail_if_too_few(self, summary: ExportSummary) -> None:
        """Fail before the rows take the place of the old ones."""
        fewest = limits_of(self._task, "fail_if").rows_below
        if fewest is None or summary.rows >= fewest:
            return
        keep_summary(self._task, self.context, summary)
        if self._task.do_xcom_push:
            self.context["ti"].xcom_push(key="return_value", value=summary.as_xcom())
        raise VoucherifyTooFewRowsError(f"{summary.warning}; what it was to replace is as it was")

    def _check_alive(self) -> None:
        if self._is_killed():
            raise VoucherifyTaskKilledError("while it wrote the rows of its export")


def _comparable(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters of an export with the one that has a documented default, and without those that are null."""
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    filters = given.get("filters", {})
    return {**given, "filters": {"junction": "and", **filters} if isinstance(filters, Mapping) else filters}


def _read(event: Mapping[str, Any] | None) -> tuple[str, str | None, Created, float]:
    """
    Read a trigger's event; one that cannot be understood must not count as success.

    :raises VoucherifyError: it cannot be understood.
    """
    from airflow_provider_voucherify.triggers.export import EVENT_VERSION

    try:
        if event is None:
            raise ValueError("there is none")
        status, state = event["status"], event["state"]
        if event["version"] != EVENT_VERSION or status not in ("finished", "timeout", "unreachable"):
            raise ValueError(f"version {event['version']!r} and status {status!r}")
        created = Created(event["export_id"], float(state["created_at"]), bool(state["resumed"]))
        return status, event.get("message"), created, float(state["end_time"])
    except (KeyError, TypeError, ValueError) as error:
        raise VoucherifyError(
            f"the trigger's event cannot be understood ({type(error).__name__}: {error}); triggerer and workers must "
            "run the same version of the provider"
        ) from error
