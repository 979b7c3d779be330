"""What a sync remembers, in tables of a warehouse, through any ``DbApiHook``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.warehouse import schema
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.history_tables import HistoryTables
from airflow_provider_voucherify.warehouse.kept_text import KeptText
from airflow_provider_voucherify.warehouse.state_table import StateTable

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.state.record_state import RecordState
    from airflow_provider_voucherify.sync.types.outcome import RowOutcome

log = logging.getLogger(__name__)

MAX_NAME = 600

CONTESTED = "another run of this sync has been at work at the same time, so what both have sent is sent again next time"


class OutcomeTables:
    """
    The tables ``{table}_runs``, ``{table}_changelog`` and ``{table}_state`` of a database, created if absent.

    ``history`` is about the first two, to which runs only ever add, and ``state`` about the third. What became of the
    rows of a try is written into all of them in one transaction.

    Text of any language is kept (in SQL Server as ``nvarchar``, in MySQL as ``utf8mb4``); tables of a character set
    that cannot do so are found out by a probe before anything is sent. Ids that they cannot keep have no state there,
    and other text is escaped.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: what the tables' names begin with, optionally after a schema and a dot.
    :param sync_name: whose rows they are; other syncs in the same tables have their own.
    :param resource: of the records; empty if that is not known before they are settled.
    :param keep_values: whether they have the JSON of the records, too.
    """

    def __init__(self, conn_id: str, table: str, sync_name: str, resource: str, *, keep_values: bool = False) -> None:
        if len(sync_name) > MAX_NAME:
            raise VoucherifyConfigurationError(f"the sync's name has more than {MAX_NAME} characters")
        self._sync_name = sync_name
        self._table = table
        self._database = Database(conn_id)
        self._kept = KeptText(self._database, f"{table}_state")
        self.history = HistoryTables(self._database, table, sync_name, resource, self._kept)
        self.state = StateTable(self._database, table, sync_name, resource, self._kept, keep_values=keep_values)

    def create(self) -> None:
        """
        Create the tables that are not there, and see what they can keep.

        :raises VoucherifyConfigurationError: they cannot keep the sync's name, lack columns, or are of a later version.
        """
        described = [kind(self._table) for kind in (schema.runs, schema.changelog, schema.state)]
        schema.create(self._database, described, self._table)
        self._kept.probe()
        if self._kept.is_everything:
            return
        warning = (
            f"the table {self._table}_state cannot keep every character: records whose ids have others are sent with "
            f"every sync, and texts are escaped ({self._kept.advice()}; the same goes for {self._table}_runs and "
            f"{self._table}_changelog)"
        )
        log.warning("%s", warning)
        if not self._kept.has(self._sync_name):
            raise VoucherifyConfigurationError(f"sync_name {self._sync_name!r} cannot be kept: {warning}")

    def exist(self) -> bool:
        """
        Say whether the tables are there.

        :raises VoucherifyConfigurationError: they are of a later version.
        """
        return schema.exist(self._database, self._table)

    def write(
        self,
        try_id: str,
        run_key: str,
        outcomes: Callable[[], Iterable[RowOutcome]],
        states: Callable[[], Iterable[RecordState]],
    ) -> list[str]:
        """
        Write what became of the rows of a try.

        The transaction is tried again if the database refuses it: another run of the same sync that ends at the
        same moment has written the same records, or, in some databases, holds locks that this one needs.

        :param try_id: of its row in ``runs``.
        :param run_key: names the run, the same for all its tries.
        :param outcomes: gives those of the rows that are to be in the changelog.
        :param states: gives those of the records that the run has changed; see ``StateTable.write``.
        :returns: what needs attention, in words.
        """
        self._kept.probe()
        self.state.prepare()
        retrying = self._database.retrying("to write the outcomes")
        return retrying(lambda: self._write(try_id, run_key, outcomes(), states()))

    def of_record(self, record_id: str, most: int) -> dict[str, Any]:
        """
        Return what is known of a record.

        :param most: lines of the changelog, the newest first.
        :returns: ``state``, its row in the table, or None; and ``lines``, each with its time, outcome and run. Times
            are Unix epoch seconds.
        """
        return {"state": self.state.of_record(record_id), "lines": self.history.of_record(record_id, most)}

    def _write(
        self, try_id: str, run_key: str, outcomes: Iterable[RowOutcome], states: Iterable[RecordState]
    ) -> list[str]:
        at = self._database.time(time.time())
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            self.history.write(cursor, try_id, outcomes, at)
            contested, left_out = self.state.write(cursor, states, run_key, at)
            connection.commit()
        warnings = [CONTESTED] if contested else []
        if left_out:
            warnings.append(
                f"{self._table}_state cannot keep the id of {counted(left_out, 'record')}, so every sync sends such "
                "records"
            )
        return warnings
