"""The outcome of every row, out of a ledger: rows that were not sent, items, and records that are not in the source."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Any

import msgspec

from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.ledger_database import LedgerDatabase
from airflow_provider_voucherify.sync.types.outcome import RowOutcome


def row_outcomes(database: LedgerDatabase, *, with_unchanged: bool) -> Iterator[RowOutcome]:
    """
    Give the outcome of every row in the order of the source, then of the records that are not in it.

    A record that was read back and is not as it was sent has another outcome after the one that answers tell.

    :param with_unchanged: give those of rows too that were not sent because they had not changed.
    """
    unsent = database.db.execute("select row, id, outcome, key, message from unsent order by row")
    next_unsent = unsent.fetchone()
    before = 0  # unsent rows before the item
    for item, *outcome in _all_items(database) if with_unchanged else _changed_items(database):
        while next_unsent is not None and next_unsent[0] <= item + before + 1:
            yield RowOutcome(*next_unsent)
            before += 1
            next_unsent = unsent.fetchone()
        yield RowOutcome(item + before + 1, *outcome)
    while next_unsent is not None:
        yield RowOutcome(*next_unsent)
        next_unsent = unsent.fetchone()
    mark = dict(zip(("mark_begin", "mark_end"), database.around("mark") or (None, None), strict=True))
    yield from (RowOutcome(*outcome) for outcome in database.db.execute(sql.OF_REMOVED, database.names | mark))
    yield from (RowOutcome(*outcome) for outcome in database.db.execute(sql.OF_READ_BACK_BESIDES))


def _changed_items(database: LedgerDatabase) -> Iterator[tuple[Any, ...]]:
    """Give item, id, outcome, key, message, details, action and content of the items that are not just unchanged."""
    others = {"held": sql.OF_HELD, "read_back": sql.OF_READ_BACK}
    used = [query for table, query in others.items() if database.number(f"select exists (select 1 from {table})")]  # noqa: S608
    if not used:
        return database.db.execute(sql.OF_ROWS)
    return merge(*map(database.db.execute, (sql.OF_ROWS, *used)), key=lambda row: row[0])


def _all_items(database: LedgerDatabase) -> Iterator[tuple[Any, ...]]:
    changed = _changed_items(database)
    following = next(changed, None)
    for first, ids in database.db.execute("select first, ids from chunks order by first"):
        for item, record_id in enumerate(msgspec.json.decode(ids), first):
            if following is None or following[0] != item:
                yield item, record_id, "unchanged"
            while following is not None and following[0] == item:
                yield following
                following = next(changed, None)
