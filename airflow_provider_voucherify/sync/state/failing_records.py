"""The records that failed before this sync, with the same content or at all, and fail again."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from airflow_provider_voucherify.sync.rows.failure_lines import Attempts
from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.ledger_database import LedgerDatabase
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import MAX_ATTEMPTS
from airflow_provider_voucherify.sync.types.reasons import SHOWN_IDS, NewlyFailed


class FailingRecords:
    """Compares the failures of a sync with those of earlier ones."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._db = database.db

    def set_aside(self, max_attempts: int, expected_keys: Collection[str] = ()) -> int:
        """
        Hold back records that Voucherify has refused so often with the same content. Returns how many.

        :param expected_keys: of reasons for which records may fail however often.
        """
        self._find_failed_before()
        expected = msgspec.json.encode(list(expected_keys)).decode()
        values = {"key": MAX_ATTEMPTS, "most": max_attempts, "expected": expected}
        return self._db.execute(sql.SET_ASIDE, values).rowcount

    def aside(self) -> Iterator[tuple[int, Failure, Attempts]]:
        """Give the items that ``set_aside`` holds back, in order, with what is known of their failures."""
        for item, record_id, message in self._db.execute(sql.ASIDE, {"key": MAX_ATTEMPTS}):
            yield item, Failure("refused", record_id, MAX_ATTEMPTS, message), self.attempts(record_id)

    def attempts(self, record_id: str) -> Attempts:
        """Return in how many earlier runs Voucherify has not accepted an id's record as it is in this sync."""
        self._find_failed_before()
        query = "select attempts, key, message from failed_before where id = ?"
        if (row := self._db.execute(query, (record_id,)).fetchone()) is None:
            return Attempts(0, 0.0)
        last = {name: text for name, text in zip(("key", "message"), row[1:], strict=True) if text is not None}
        return Attempts(row[0], 0.0, (last,) if last else ())

    def newly_failed(self) -> NewlyFailed | None:
        """Say which failed and refused records had not failed in the last sync; None before there was one."""
        if not self._database.number(sql.HAS_EARLIER_RUNS, self._database.names):
            return None
        found = self._db.execute(sql.NEWLY_FAILED, {**self._database.names, "most": SHOWN_IDS}).fetchall()
        return NewlyFailed(found[0][1] if found else 0, [record_id for record_id, _ in found])

    def _find_failed_before(self) -> None:
        if not self._database.about("failed before"):
            self._database.note("failed before", "known")
            self._db.execute(sql.FIND_FAILED_BEFORE, self._database.names)
