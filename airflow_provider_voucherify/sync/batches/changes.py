"""What to send if the state of earlier syncs is known: what differs from Voucherify, and the records that left."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from airflow_provider_voucherify.sync.batches.destination import Destination
from airflow_provider_voucherify.sync.batches.spool import Spool
from airflow_provider_voucherify.sync.rows.chunks import ROWS_PER_CHUNK
from airflow_provider_voucherify.sync.rows.encoding import encode_json
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.text import counted


@dataclass(frozen=True, slots=True)
class Changes:
    """
    What to send of a source if earlier failures, or the state of earlier syncs, are known.

    :param max_attempts: a record that Voucherify has refused this often with the same content is not sent again, unless
        everything is sent; None for no such limit.
    :param removed: what to do with records that left the source: ``ignore``, ``report``, or the destination that
        marks them.
    :param max_removed_ratio: if a larger share of the records that Voucherify has left the source at once, the source
        is probably incomplete, and no record counts as removed; None for no such limit.
    :param expected_keys: keys of reasons for which a record may fail more often than ``max_attempts``.
    """

    max_attempts: int | None = None
    removed: Literal["ignore", "report"] | Destination = "ignore"
    max_removed_ratio: float | None = None
    expected_keys: Collection[str] = ()


def find_removed(ledger: Ledger, changes: Changes, rows_read: int, warn: Callable[[str], None]) -> int:
    """
    Find the records that left the source, in the ledger; returns how many.

    :param rows_read: number of rows in the source; if it is 0, no record counts as removed.
    :param warn: called with each warning.
    """
    if changes.removed == "ignore":
        return 0
    if not rows_read:
        warn("the source has no rows at all, so no record counts as removed")
        return 0
    without_id, first, why = ledger.rows_without_id
    if without_id:
        warn(
            "there are rows without an id, which could belong to any record, so no record counts as removed "
            f"({without_id:,}; the first is row {first:,}: {why})"
        )
        return 0
    removed, known = ledger.removed.find(to_be_marked=isinstance(changes.removed, Destination))
    ratio = changes.max_removed_ratio
    if ratio is not None and removed > known * ratio:
        ledger.removed.forget()
        warn(
            f"the source no longer has {removed:,} of {counted(known, 'record')}, more than max_removed_ratio={ratio} "
            "allows, so none counts as removed"
        )
        return 0
    return removed


def marks_of_removed(ledger: Ledger, destination: Destination) -> Spool:
    """Return the ids of the records that left the source, for the destination that marks them."""
    spool = Spool(destination)
    ids = ledger.removed.ids()
    while some := list(islice(ids, ROWS_PER_CHUNK)):
        spool.add_distinct(b"".join(encode_json(record_id) + b"\n" for record_id in some), len(some))
    return spool


def warn_of_returned(ledger: Ledger, destination: Destination, warn: Callable[[str], None]) -> None:
    """Warn of records that are in the source again while Voucherify still has them marked as removed."""
    marked = [f"metadata.{name}" for name in destination.shared_metadata]
    if back := ledger.removed.count_returned(marked):
        warn(
            f"{counted(back, 'record is', 'records are')} in the source again and still marked as removed: the source "
            f"needs a column for each of {', '.join(marked)}, with the value for records that are present"
        )
