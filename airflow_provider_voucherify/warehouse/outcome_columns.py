"""The columns of the outcome tables, and the rows that are written into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.sync.types.outcome import OUTCOMES

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.state.record_state import RecordState
    from airflow_provider_voucherify.sync.types.outcome import RowOutcome

MAX_ID = 500
"""Characters of an id of which a state is kept. Records with longer ids are sent with every sync."""

MAX_FIELDS = 4_000
"""Characters of the list of a record's fields, all of them ASCII; of a longer one nothing is kept."""

RUN_COUNTS = (
    *("rows_read", "submitted", *OUTCOMES),
    *("values_not_cleared", "removed_to_mark", "requests", "bytes_sent"),
)

# Some databases count a varchar in bytes, of which a character may take four.
RUNS = {
    "run_key": "varchar(760) not null",
    "sync_name": "varchar(2400)",
    "dag_id": "varchar(1000)",
    "task_id": "varchar(1000)",
    "run_id": "varchar(1000)",
    "map_index": "integer",
    "try_number": "integer",
    "resource": "varchar(20)",
    "settings": "varchar(40)",
    "finished_at": "varchar(40)",
    **dict.fromkeys(RUN_COUNTS, "bigint"),
    "warning": "varchar(4000)",
}
CHANGELOG = {
    "run_key": "varchar(760) not null",
    "entry_number": "bigint not null",
    "source_row": "bigint",
    "record_id": "varchar(2000)",
    "outcome": "varchar(20) not null",
    "reason_key": "varchar(400)",
    "message": "varchar(2000)",
    "details": "varchar(2000)",
    "async_action_id": "varchar(400)",
}
STATE = {
    "record_key": "varchar(32) not null",
    "sync_name": "varchar(2400) not null",
    "resource": "varchar(20) not null",
    "record_id": "varchar(2000) not null",
    "settings": "varchar(40) not null",
    "digest": "bigint",
    "failed_digest": "bigint",
    "attempts": "integer not null",
    "outcome": "varchar(20) not null",
    "reason_key": "varchar(400)",
    "message": "varchar(2000)",
    "run_key": "varchar(760) not null",
    "changed_at": "varchar(40)",
    "confirmed_at": "varchar(40)",
    "fields": "varchar(4000)",
    "not_cleared": "varchar(4000)",
    "sent_by": "varchar(32)",
}

Cut = Callable[[Any, int], Any]
"""Cuts a text to a number of characters, and to what the tables keep; other values it leaves as they are."""


def run_row(run: Mapping[str, Any], cut: Cut) -> list[Any]:
    """Return a row of ``runs``; what ``run`` does not name is null."""
    return [cut(run.get(name), 1_000) for name in RUNS]


def changelog_row(run_key: str, number: int, outcome: RowOutcome, cut: Cut) -> list[Any]:
    """
    Return a row of ``changelog``.

    :param number: of the entry, from 1.
    """
    return [
        *(run_key, number, outcome.row, cut(outcome.id, MAX_ID), outcome.outcome, cut(outcome.key, 100)),
        *(cut(outcome.message, MAX_ID), cut(outcome.details, MAX_ID), cut(outcome.async_action_id, 100)),
    ]


def state_row(
    keys: Sequence[str], state: RecordState, *, finished_at: str, sent_by: str, contested: bool, cut: Cut
) -> list[Any]:
    """
    Return a row of ``state``.

    :param keys: the record's key, the sync's name and the resource.
    :param contested: nobody knows what Voucherify has, so the row must not say that it has anything.
    """
    reason_key = "reported" if contested and is_marked(state) else state.key
    return [
        *(*keys, state.id, state.settings),
        *(None if contested else state.digest, state.failed_digest, state.attempts, state.outcome),
        *(cut(reason_key, 100), cut(state.message, MAX_ID), cut(state.run, 760)),
        finished_at,
        None if state.confirmed_at is None else iso(state.confirmed_at),
        *(None if names is None or len(names) > MAX_FIELDS else names for names in (state.fields, state.not_cleared)),
        sent_by,
    ]


STATE_AS_READ = (
    "record_id, settings, digest, failed_digest, attempts, outcome, reason_key, message, run_key, confirmed_at, "
    "fields, not_cleared"
)
"""The columns that ``record_state`` takes."""


def record_state(row: Sequence[Any]) -> RecordState:
    """Return the state that a row of ``STATE_AS_READ`` tells."""
    from airflow_provider_voucherify.sync.state.record_state import RecordState

    record_id, settings, digest, failed, attempts, outcome, key, message, run, confirmed_at, fields, not_cleared = row
    return RecordState(
        record_id,
        settings,
        None if digest is None else int(digest),
        None if failed is None else int(failed),
        int(attempts),
        outcome,
        key,
        message,
        run,
        None if confirmed_at is None else datetime.fromisoformat(confirmed_at).timestamp(),
        fields,
        not_cleared,
    )


def says_what_is_there(state: RecordState) -> bool:
    """Say whether a run that comes later believes what a state says of Voucherify."""
    return state.digest is not None or is_marked(state)


def is_marked(state: RecordState) -> bool:
    """Say whether a record has left the source, and Voucherify has it marked for that."""
    return state.outcome == "removed" and state.key == "marked"


def iso(epoch: float) -> str:
    """Write a time as the tables have it, e.g. ``2026-11-21T02:00:00.123+00:00``."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")
