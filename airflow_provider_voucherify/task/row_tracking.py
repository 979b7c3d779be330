"""What is kept of a sync beyond its summary: the outcome of every row, and the state from which changes are told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.policies import State
from airflow_provider_voucherify.storage.files import check_writable, fetch, replacing
from airflow_provider_voucherify.storage.history_folder import HistoryFolder
from airflow_provider_voucherify.storage.paths import path_text
from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
from airflow_provider_voucherify.sync.types.text import counted, short_digest
from airflow_provider_voucherify.task.history import History, run_name, try_id
from airflow_provider_voucherify.task.staging import Folder
from airflow_provider_voucherify.warehouse.outcome_tables import CONTESTED, OutcomeTables
from airflow_provider_voucherify.warehouse.staged_table import StagedTable
from airflow_provider_voucherify.warehouse.state_table import sync_key

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.sync.state.record_state import RecordState
    from airflow_provider_voucherify.sync.types.outcome import RowOutcome

log = logging.getLogger(__name__)

SECONDS_PER_DAY = 86_400

GONE = "the state of earlier syncs is gone, though there are runs of this sync, so every row is sent"

STATE_XCOM_KEY = "voucherify_state"
"""XCom with the path of the state that a run has written."""


@dataclass(frozen=True)
class RowTracking:
    """
    Where outcomes and state are kept: in tables, or in files of a folder.

    :param resource: ``customers``, ``products`` or ``vouchers``; empty if only the actions can tell.
    :param sync_name: names the sync in the tables and in the file of the state.
    :param folder: where what was sent is kept while the task is deferred.
    :param history: where its tries are recorded.
    :param tables: outcomes and state in a database.
    :param state_path: or the file of the state.
    :param outcomes_path: and a file for the outcomes of the try, if they are wanted.
    :param keep_days: how long lines of the changelog are kept; None for ever.
    """

    resource: str
    sync_name: str
    folder: Folder
    history: History
    tables: OutcomeTables | None = None
    state_path: str | None = None
    outcomes_path: str | None = None
    keep_days: int | None = None

    @classmethod
    def of(cls, state: State, resource: str, context: Context, *, name_is_shared: bool) -> RowTracking:
        """
        Return where a task keeps what it remembers.

        :param name_is_shared: whether other instances of a mapped task may have the same ``sync_name``. These share the
            tables, where each record is in the rows of one of them, and have a folder each.
        """
        ti = context["ti"]
        map_index = None if ti.map_index is None or ti.map_index < 0 else ti.map_index
        name = state.sync_name or sync_name(context)
        if state.conn_id:
            tables = OutcomeTables(state.conn_id, state.table, name, resource, keep_values=state.keep_values)
            staged = StagedTable(state.conn_id, state.table)
            return cls(resource, name, staged, tables.history, tables, keep_days=state.keep_days)
        names = [ti.dag_id, ti.task_id] if state.sync_name is None else [state.sync_name]
        own = [quote(part, safe="") for part in (*names, resource) if part]
        if map_index is not None and name_is_shared:
            own.append(f"map_index={map_index}")
        place = "/".join([path_text("path of state", state.path).rstrip("/"), *own])
        folder = StorageReportFolder(place, "path of state")
        # tasks of one sync_name share a folder, and may be in one run
        about = {"sync_key": sync_key(name, resource), "sync_name": name}
        history = HistoryFolder(folder, ti.run_id if state.sync_name is None else run_name(context), about)
        ending = state.outcomes
        outcomes = f"{place}/{history.outcomes(ti.try_number, try_id(context), ending)}" if ending else None
        return cls(resource, name, folder, history, None, f"{place}/state", outcomes)

    def create(self, *, dry_run: bool, stages: bool) -> bool:
        """
        Make what is not there of the place, and see whether everything can be written: it would be too late to learn it
        after everything is sent. A dry run makes nothing.

        :param stages: whether the task may be deferred, so that what was sent is kept and removed again.
        :returns: whether the place is there.
        :raises VoucherifyConfigurationError: it cannot be written to.
        """
        if dry_run:
            return self.tables.exist() if self.tables is not None else bool(self._state_file(str(self.state_path)))
        if self.outcomes_path is not None:
            from airflow_provider_voucherify.sync.state.outcome_file import check_format

            check_format(self.outcomes_path)
        if self.tables is not None:
            self.tables.create()
        if stages:
            self.folder.prepare()
        elif self.state_path is not None:
            check_writable(self.state_path, "path of state")
        return True

    def load_state(self, ledger: Ledger, context: Context | None = None, *, dry_run: bool = False) -> list[str]:
        """
        Tell a ledger what earlier syncs have left.

        :param dry_run: whether there may be no tables.
        :param context: of the task, whose earlier runs tell of a file that is gone.
        :returns: what of the state needs attention, in words.
        """
        warnings = []
        if self.state_path is not None:
            try:
                self._read_state_file(ledger)
            except VoucherifyConfigurationError:  # a ValueError, but the file is somebody else's
                raise
            except ValueError as error:
                ledger.state_file = self._state_file(self.state_path)
                warnings.append(f"the state of earlier syncs cannot be used, so every row is sent: {error}")
            if not ledger.state_file and not warnings and context is not None and self._was_written(context):
                warnings.append(GONE)
        elif self.tables is not None and (not dry_run or self.tables.exist()):
            ledger.load_state(self.tables.state.states())
            warnings.extend(self._doubts_about_tables(self.tables, ledger))
        if ledger.has_other_settings and not ledger.sends_everything:
            warnings.append(
                "the mapping, the project or another setting has changed since the last sync, so every row is sent"
            )
        return warnings

    @staticmethod
    def _doubts_about_tables(tables: OutcomeTables, ledger: Ledger) -> Iterator[str]:
        if tables.state.strangers:
            yield (
                f"{counted(tables.state.strangers, 'row')} of the state of earlier syncs cannot be used: the database "
                "has changed ids, or takes the name of another sync for this one's"
            )
        elif not ledger.known and tables.history.has_runs_of_others(short_digest(ledger.run)):
            yield GONE

    def note_overtaken(self, ledger: Ledger) -> None:
        """
        Note in a retry's ledger which records another run has been about to send since this run's last try.

        What this run has sent before that is not the last that Voucherify was told. Once ``before_sending`` has written
        this run's name over the other's, no later try can tell.
        """
        if self.tables is not None:
            ledger.doubt()
            ledger.note_overtaken(self.tables.state.sent_by_others(ledger.doubted(), ledger.run))
        elif self.state_path is not None and self._writer(self.state_path) != ledger.run:
            ledger.note_overtaken(None)

    def before_sending(self, ledger: Ledger) -> None:
        """
        Let the state say who is about to be sent and by which run, so that nobody knows what Voucherify has of them.

        A file that is not the one any more that was loaded is another run's, which is sending too: what that one has
        taken out of it stays out, and what this run sends is not confirmed by it.
        """
        if self.tables is not None:
            ledger.doubt()
            self.tables.state.doubt(ledger.doubted, ledger.run)
        elif self.state_path is not None:
            if self._state_file(self.state_path) != ledger.state_file:
                ledger.state_is_contested = True
                self._reload_state(ledger)
            ledger.doubt()
            if ledger.has_to_send or not ledger.state_file or ledger.state_is_contested:
                self._write_state_file(ledger)

    def write(self, ledger: Ledger, context: Context) -> list[str]:
        """
        Write the outcomes down, and then the state: until then it only says what ``before_sending`` has left in it.

        :returns: what needs attention, in words.
        """

        warnings: list[str] = []
        if recreated := ledger.count_recreated():
            warnings.append(
                f"{counted(recreated, 'record')} that an earlier sync had confirmed had to be created anew: deleted at "
                "Voucherify in between, with all that was known there"
            )
        if self.tables is not None:
            ledger.update_state()
            outcomes = partial(ledger.outcomes, with_unchanged=False)
            warnings.extend(self.write_outcomes(outcomes, context, ledger.changed_states))
            return warnings
        self.write_outcomes(ledger.outcomes, context)
        if self.state_path is not None:
            is_another = self._state_file(self.state_path) != ledger.state_file
            contested = is_another or ledger.state_is_contested
            if is_another:
                self._reload_state(ledger)
            if contested:
                ledger.doubt()
                warnings.append(CONTESTED)
            else:
                ledger.update_state()
            self._write_state_file(ledger)
            context["ti"].xcom_push(key=STATE_XCOM_KEY, value=self.state_path)
        return warnings

    def write_compared(self, ledger: Ledger, context: Context) -> list[str]:
        """
        Write down what the source is beside that which Voucherify has; the state of records stays as it is.

        :returns: what needs attention, in words.
        """
        from msgspec.structs import replace

        def outcomes() -> Iterator[RowOutcome]:
            for one in ledger.outcomes(with_unchanged=self.tables is None):
                yield replace(one, outcome="verified") if one.outcome == "unchanged" else one

        return self.write_outcomes(outcomes, context)

    def write_outcomes(
        self,
        outcomes: Callable[[], Iterable[RowOutcome]],
        context: Context,
        states: Callable[[], Iterable[RecordState]] = tuple,
    ) -> list[str]:
        """
        Write outcomes of a try into the history, and remove those that are older than ``keep_days``.

        :param states: what has changed with them, for tables.
        :returns: what needs attention, in words.
        """
        from airflow_provider_voucherify.sync.state.outcome_file import write_outcomes

        if self.outcomes_path is not None:
            with replacing(self.outcomes_path) as file:
                write_outcomes(outcomes(), self.outcomes_path, file)
        if self.tables is None:
            return []
        warnings = self.tables.write(try_id(context), run_name(context), outcomes, states)
        if self.keep_days is not None:
            try:
                self.tables.history.forget(time.time() - self.keep_days * SECONDS_PER_DAY)
            except Exception:
                log.warning("Old lines of the changelog cannot be deleted; the next sync tries again", exc_info=True)
        return warnings

    def _was_written(self, context: Context) -> bool:
        """Say whether the last run before this one, of those that have a date in Airflow, has written the file."""
        ti: Any = context["ti"]
        of_task = {"task_ids": ti.task_id, "map_indexes": ti.map_index, "include_prior_dates": True}
        return bool(ti.xcom_pull(key=STATE_XCOM_KEY, **of_task) == self.state_path)

    def _reload_state(self, ledger: Ledger) -> None:
        ledger.forget_state()
        self.load_state(ledger)

    def _read_state_file(self, ledger: Ledger) -> None:
        from airflow_provider_voucherify.sync.state.state_file import read_state

        with TemporaryFile(prefix="voucherify-") as file:
            if fetch(str(self.state_path), file):
                ledger.state_file = read_state(ledger, self.resource, self.sync_name, file)

    def _write_state_file(self, ledger: Ledger) -> None:
        from airflow_provider_voucherify.sync.state.state_file import write_state

        with replacing(str(self.state_path)) as file:
            written = write_state(ledger, self.resource, self.sync_name, file)
        ledger.state_file = written

    @staticmethod
    def _writer(path: str) -> str:
        """Say which run has written the state of a file."""
        from airflow_provider_voucherify.storage.files import first_line
        from airflow_provider_voucherify.sync.state.state_file import writer_of

        return writer_of(first_line(path))

    @staticmethod
    def _state_file(path: str) -> str:
        """Say which state a file has, by its first line; an empty text where there is none."""
        from airflow_provider_voucherify.storage.files import first_line
        from airflow_provider_voucherify.sync.state.state_file import name_of_state

        return name_of_state(first_line(path))


def sync_name(context: Context) -> str:
    """Name the sync that a task is, the same for all its runs; a slash is in no id of a DAG or a task, unlike a dot."""
    ti = context["ti"]
    mapped = "" if ti.map_index is None or ti.map_index < 0 else f"[{ti.map_index}]"
    return f"{ti.dag_id}/{ti.task_id}{mapped}"
