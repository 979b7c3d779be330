"""What reading back has shown of the records of a sync."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_voucherify.sync.rows.encoding import encode_json
from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.ledger_database import LedgerDatabase
from airflow_provider_voucherify.sync.types.outcome import ReadBackOutcome
from airflow_provider_voucherify.sync.types.text import shortened

Fields = Mapping[str, Mapping[str, Any]]
"""What was ``found`` and ``sent`` of each field that differs."""


class ReadBackRecords:
    """Notes which records Voucherify has been seen to have, and how the others differ from what it has."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._db = database.db

    def keep_values(self) -> None:
        """Keep what was found and sent, and not only the names of fields."""
        self._database.note("read back", "values")

    def note_verified(self, verified: Sequence[str], others: Sequence[str]) -> None:
        """Note which ids have been read back as they were sent, and which not: it counts, whatever answers say."""
        for ids, statement in ((verified, sql.NOTE_VERIFIED), (others, sql.NOTE_OTHERS)):
            self._db.execute(statement, (msgspec.json.encode(ids).decode(),))

    def note(self, record_id: str, outcome: ReadBackOutcome, fields: Fields) -> None:
        """Give a record an outcome beside that which answers say."""
        self._db.execute(
            "insert or replace into read_back values (?, ?, ?, ?)", (record_id, outcome, *self._texts(fields))
        )

    def hold(self, item: int, outcome: ReadBackOutcome, fields: Fields) -> None:
        """Give an item (from 0) that will not be sent its only outcome."""
        held = "insert into held(item, outcome, message, details) values (?, ?, ?, ?)"
        self._db.execute(held, (item, outcome, *self._texts(fields)))

    def _texts(self, fields: Fields) -> tuple[str | None, str | None]:
        """Return message and details of an outcome."""
        if not fields:
            return None, None
        values = encode_json(fields).decode() if self._database.about("read back") else None
        return shortened(", ".join(fields)), shortened(values)
