"""What to send if it is known what Voucherify has: the records that differ, or only known ones, or only new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from airflow_provider_voucherify.sync.batches.spool import Spool
from airflow_provider_voucherify.sync.comparison.found_records import Comparison, FoundRecords
from airflow_provider_voucherify.sync.rows.record_builder import RefusedRowError

SyncMode = Literal["upsert", "update", "create"]

_NOT_FOUND = RefusedRowError("not_found", "Voucherify has no such record, and sync_mode is 'update'")
_EXISTS = RefusedRowError("already_exists", "Voucherify has this record, and sync_mode is 'create'")


@dataclass(frozen=True, slots=True)
class Selected:
    """
    Some items of a spool, compared.

    :param first: number of the first one.
    :param ids: of their records.
    :param items: as they are in the spool.
    :param comparisons: what each is beside that which Voucherify has.
    :param superseded: places of those that are not sent, because a later one has the same id.
    """

    first: int
    ids: Sequence[str]
    items: Sequence[bytes]
    comparisons: Sequence[Comparison]
    superseded: frozenset[int]


def compared(spool: Spool, found: FoundRecords) -> Iterator[Selected]:
    """Compare all items of a spool, about a thousand at a time."""
    ids_in = _ids_in(spool)
    begin, end = (text.encode() for text in spool.destination.around_item)
    superseded = iter(spool.superseded)
    skip = next(superseded, None)
    first = 0
    for items in spool.all_blocks():
        ids = ids_in(items)
        records = [begin + item + end for item in items] if begin else items
        out = set()
        while skip is not None and skip < first + len(items):
            out.add(skip - first)
            skip = next(superseded, None)
        yield Selected(first, ids, items, found.compare(ids, records), frozenset(out))
        first += len(items)


def why_refused(comparison: Comparison, mode: SyncMode) -> RefusedRowError | None:
    """Say why a record may not be sent; None if it may."""
    if mode == "update" and comparison == "absent":
        return _NOT_FOUND
    if mode == "create" and comparison != "absent":
        return _EXISTS
    return None


def _ids_in(spool: Spool) -> Callable[[Sequence[bytes]], list[str]]:
    """Return a function that reads the ids of items."""
    if spool.destination.sends_ids:
        decode: Any = msgspec.json.Decoder(list[str]).decode
        return lambda items: decode(b"[" + b",".join(items) + b"]")
    record = msgspec.defstruct("record", [("id", str)], rename={"id": spool.destination.endpoint.key}, gc=False)
    decode = msgspec.json.Decoder(list[record]).decode  # type: ignore[valid-type]
    return lambda items: [one.id for one in decode(b"[" + b",".join(items) + b"]")]
