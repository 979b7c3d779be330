"""Records that earlier syncs had and the source has no more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.ledger_database import LedgerDatabase


class RemovedRecords:
    """The records of a ledger's state that left the source, once ``find`` has looked for them."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def find(self, *, to_be_marked: bool) -> tuple[int, int]:
        """
        Find the ids that earlier syncs had and the source has no more.

        :param to_be_marked: find those too that were reported by an earlier sync and not marked.
        :returns: how many of those that Voucherify has confirmed once are gone, and of how many.
        """
        database = self._database
        database.note("marks", "yes" if to_be_marked else "")
        candidates, had = database.db.execute(sql.COUNT_CANDIDATES, database.names).fetchone()
        items = database.count_items()
        if database.number(sql.COUNT_KNOWN_IN_SOURCE, {**database.names, "items": items}) < candidates:
            database.script(sql.FIND_PRESENT)
            database.db.execute(sql.FIND_REMOVED, database.names)
            database.db.execute("delete from present")
        return database.number("select count(*) from removed where was_confirmed"), had

    def forget(self) -> None:
        """Take nobody for removed after all."""
        self._database.db.execute("delete from removed")

    def ids(self) -> Iterator[str]:
        """Give the ids that left the source and that Voucherify has."""
        query = "select id from removed where was_confirmed order by id"
        return (record_id for (record_id,) in self._database.db.execute(query))

    def count_returned(self, marked: Iterable[str]) -> int:
        """
        Say how many records are in the source again that are marked as removed, and will stay so.

        :param marked: paths of the fields that a mark sets. If the source has a column for each, nobody stays marked.
        """
        return self._database.number(sql.COUNT_RETURNED, {"paths": json.dumps(list(marked))})
