"""What differs between a source and Voucherify, counted and named; nothing of it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_voucherify.sync.batches.compared_plan import ComparedItems
from airflow_provider_voucherify.sync.comparison.differences import Differences, by_field
from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.outcome import ReadBackOutcome


@dataclass(frozen=True, slots=True)
class Drift:
    """
    The rows of a source that could be sent, by what Voucherify has of them.

    :param verified: rows whose record is the same there.
    :param differing: rows whose record is otherwise.
    :param missing: rows whose record is not there.
    :param not_in_source: records that are there and that none of these rows has.
    """

    verified: int
    differing: int
    missing: int
    not_in_source: int


def find_drift(
    rows: Iterable[ComparedItems],
    found: FoundRecords,
    differences: Differences,
    ledger: Ledger | None = None,
    *,
    names_others: bool = True,
) -> Drift:
    """
    Compare a source with what Voucherify has.

    :param rows: of the source, compared.
    :param differences: gets the records that differ or are missing, and then those that are not in the source, if
        there is room for them.
    :param ledger: gets the outcome of each row, and the same others; None if there is none.
    :param names_others: whether the rows are the whole source, so that the others are not in it.
    """
    counts = {"same": 0, "different": 0, "absent": 0}
    for some in rows:
        found.note_present(some.ids)
        if ledger is not None:
            ledger.add_records(some.ids, some.items, [comparison == "same" for comparison in some.comparisons])
            ledger.supersede(some.first + place for place in sorted(some.superseded))
        for place, comparison in enumerate(some.comparisons):
            if place in some.superseded:
                continue
            counts[comparison] += 1
            if comparison == "same":
                continue
            looks = comparison == "different" and differences.has_room
            fields = found.differences(some.ids[place], some.records[place]) if looks else ()
            outcome: ReadBackOutcome = "missing" if comparison == "absent" else "differing"
            differences.add(some.ids[place], outcome, fields)
            if ledger is not None:
                ledger.read_back.hold(some.first + place, outcome, by_field(fields))
    for record_id in found.others():
        if not (names_others and differences.has_room):
            break
        differences.add(record_id, "not_in_source", ())
        if ledger is not None:
            ledger.read_back.note(record_id, "not_in_source", {})
    not_in_source = found.number - counts["same"] - counts["different"]
    return Drift(counts["same"], counts["different"], counts["absent"], not_in_source)
