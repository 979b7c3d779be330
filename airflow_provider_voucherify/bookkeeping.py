"""What is kept of a sync beyond its summary: the outcome of every row, and the state from which changes are told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.hooks.outcome_tables import RUN_COUNTS, OutcomeTables, iso
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.storage import fetch, replace_file

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.sync.ledger import Ledger
    from airflow_provider_voucherify.sync.summary import SyncSummary

CONTESTED = "another run of this sync has been at work at the same time, so what both have sent is sent again next time"


@dataclass(frozen=True)
class Bookkeeping:
    """
    Where outcomes and state are kept; any part may be None.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param sync_name: names the sync in the tables and in the file of the state.
    :param outcomes_path: file of outcomes.
    :param state_path: file of the state.
    :param tables: outcomes and state in a database.
    """

    resource: str
    sync_name: str
    outcomes_path: str | None = None
    state_path: str | None = None
    tables: OutcomeTables | None = None

    def load_state(self, ledger: Ledger, *, create: bool = True) -> list[str]:
        """
        Tell a ledger what earlier syncs have left.

        :param create: create the tables where they are absent.
        :returns: what of the state deserves a look, in words.
        """
        warnings = []
        if self.state_path is not None:
            try:
                self._read_state_file(ledger)
            except VoucherifyConfigurationError:  # a ValueError, but the file is somebody else's
                raise
            except ValueError as error:
                warnings.append(f"the state of earlier syncs cannot be used, so every row is sent: {error}")
        elif self.tables is not None:
            if create:
                self.tables.create()
            if create or self.tables.exist():
                ledger.load_state(self.tables.states())
        if ledger.has_other_settings and not ledger.sends_everything:
            warnings.append(
                "the mapping, the project or another setting has changed since the last sync, so every row is sent"
            )
        return warnings

    def before_sending(self, ledger: Ledger) -> None:
        """Let the state say that nobody knows what Voucherify has of the records that are about to be sent."""
        doubted = ledger.doubt()
        if self.tables is not None:
            if doubted:
                self.tables.doubt(ledger.doubted())
        elif self.state_path is not None and (doubted or not ledger.state_file):
            self._write_state_file(ledger)

    def write(self, ledger: Ledger, summary: SyncSummary, context: Context) -> list[str]:
        """
        Write the outcomes down, and then the state: until then it only says what ``before_sending`` has left in it.

        Doing this again, after a crash or in a retry, replaces what was written.

        :returns: what deserves a look, in words.
        """
        from airflow_provider_voucherify.sync.outcome_file import write_outcomes

        contested = False
        if self.outcomes_path is not None:
            with TemporaryDirectory(prefix="voucherify-") as folder:
                file = Path(folder, "outcomes")
                write_outcomes(ledger.outcomes(), self.outcomes_path, file)
                replace_file(self.outcomes_path, file)
        if self.tables is not None:
            ledger.update_state()
            run = _run(self.sync_name, ledger, summary, context)
            outcomes = partial(ledger.outcomes, with_unchanged=False)
            contested = bool(self.tables.write(run, outcomes, ledger.changed_states))
        elif self.state_path is not None:
            contested = self._state_file(self.state_path) != ledger.state_file
            if contested:
                ledger.forget_state()
                self.load_state(ledger)
                ledger.doubt()
            else:
                ledger.update_state()
            self._write_state_file(ledger)
        return [CONTESTED] if contested else []

    def _read_state_file(self, ledger: Ledger) -> None:
        from airflow_provider_voucherify.sync.state_file import read_state

        with TemporaryDirectory(prefix="voucherify-") as folder:
            file = Path(folder, "state")
            if fetch(str(self.state_path), file):
                ledger.state_file = read_state(ledger, self.resource, self.sync_name, file)

    def _write_state_file(self, ledger: Ledger) -> None:
        from airflow_provider_voucherify.sync.state_file import write_state

        with TemporaryDirectory(prefix="voucherify-") as folder:
            file = Path(folder, "state")
            ledger.state_file = write_state(ledger, self.resource, self.sync_name, file)
            replace_file(str(self.state_path), file)

    @staticmethod
    def _state_file(path: str) -> str:
        """Say which state a file has, by its first line; an empty text where there is none."""
        from airflow_provider_voucherify.storage import first_line
        from airflow_provider_voucherify.sync.state_file import state_of

        return state_of(first_line(path))


def run_key(context: Context) -> str:
    """Name a task's run, the same for all its tries."""
    ti = context["ti"]
    map_index = [] if ti.map_index is None or ti.map_index < 0 else [str(ti.map_index)]
    return "/".join([ti.dag_id, ti.task_id, ti.run_id, *map_index])


def sync_name(context: Context) -> str:
    """Name the sync that a task is, the same for all its runs."""
    ti = context["ti"]
    mapped = "" if ti.map_index is None or ti.map_index < 0 else f"[{ti.map_index}]"
    return f"{ti.dag_id}.{ti.task_id}{mapped}"


def _run(sync_name: str, ledger: Ledger, summary: SyncSummary, context: Context) -> Mapping[str, Any]:
    ti = context["ti"]
    return {
        "run_key": ledger.run,
        "sync_name": sync_name,
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
        "run_id": ti.run_id,
        "map_index": -1 if ti.map_index is None else ti.map_index,
        "try_number": ti.try_number,
        "resource": summary.resource,
        "settings": ledger.settings,
        "finished_at": iso(time.time()),
        "warning": summary.warning,
        **{name: getattr(summary, name) for name in RUN_COUNTS},
    }
