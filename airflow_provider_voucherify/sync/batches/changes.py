"""What of a source is sent if the state of earlier syncs is known: what is not as Voucherify has it, and who left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from airflow_provider_voucherify.sync.batches.destination import Destination
from airflow_provider_voucherify.sync.batches.spool import Spool, decode_id
from airflow_provider_voucherify.sync.rows.chunks import ROWS_PER_CHUNK
from airflow_provider_voucherify.sync.rows.encoding import encode_json
from airflow_provider_voucherify.sync.state.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Changes:
    """
    What of a source is sent, if earlier failures or the state of earlier syncs are known.

    :param max_attempts: a record that Voucherify has refused so often with the same content is not sent again, unless
        everything is sent; None for no such limit.
    :param removed: what is done with records that left the source: ``ignore``, ``report``, or the destination that
        marks them.
    :param max_removed_ratio: if a larger part of the records that Voucherify has left the source at once, the source
        is more likely not whole, and no record is taken for removed; None for any part.
    """

    max_attempts: int | None = None
    removed: Literal["ignore", "report"] | Destination = "ignore"
    max_removed_ratio: float | None = None


def find_removed(ledger: Ledger, changes: Changes, rows_read: int, warn: Callable[[str], None]) -> int:
    """
    Find the records that left the source, in the ledger; returns how many.

    :param rows_read: of the source; without any, nobody is taken for removed.
    :param warn: takes what deserves a look, in words.
    """
    if changes.removed == "ignore":
        return 0
    if not rows_read:
        warn("the source has no rows at all, so no record is taken for removed")
        return 0
    if ledger.has_rows_without_id:
        warn("there are rows without an id, which could be anyone's, so no record is taken for removed")
        return 0
    gone, had = ledger.removed.find(to_be_marked=isinstance(changes.removed, Destination))
    ratio = changes.max_removed_ratio
    if ratio is not None and gone > had * ratio:
        ledger.removed.forget()
        warn(
            f"{gone:,} of {had:,} records have left the source, more than max_removed_ratio={ratio} allows, so none "
            "is taken for removed"
        )
        return 0
    return gone


def marks_of_removed(ledger: Ledger, destination: Destination) -> Spool:
    """Return the ids of the records that left the source, for the destination that marks them."""
    spool = Spool(destination, decode_id)
    ids = ledger.removed.ids()
    while some := list(islice(ids, ROWS_PER_CHUNK)):
        spool.add_distinct(b"".join(encode_json(record_id) + b"\n" for record_id in some), len(some))
    return spool


def warn_of_returned(ledger: Ledger, destination: Destination, warn: Callable[[str], None]) -> None:
    """Warn of records that have come back to the source while Voucherify has them marked by a destination."""
    marked = [f"metadata.{name}" for name in destination.shared_metadata]
    if back := ledger.removed.count_returned(marked):
        warn(
            f"{back:,} records that were marked as removed are in the source again, and stay marked: the source "
            f"needs a column for each of {', '.join(marked)}, with the value of records that are there"
        )
