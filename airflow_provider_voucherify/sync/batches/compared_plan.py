"""A plan that knows what Voucherify has: it sends what differs, or only known records, or only new ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress, count
from operator import and_
from typing import Any

import msgspec

from airflow_provider_voucherify.policies import ReadBack
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.comparison.differences import Differences
from airflow_provider_voucherify.sync.comparison.export_columns import Path
from airflow_provider_voucherify.sync.comparison.found_records import Comparison, FoundRecords
from airflow_provider_voucherify.sync.rows.record_builder import RefusedRowError
from airflow_provider_voucherify.sync.types.counts import Counts
from airflow_provider_voucherify.sync.types.failure import Failure

_NOT_FOUND = RefusedRowError("not_found", "Voucherify has no such record, and sync_mode is 'update'")
_EXISTS = RefusedRowError("already_exists", "Voucherify has this record, and sync_mode is 'create'")


@dataclass(frozen=True, slots=True)
class ComparedItems:
    """
    Some of what could be sent.

    :param first: number of the first one.
    :param ids: of their records.
    :param records: the JSON of what each record gets.
    :param items: the same as they are in the spool.
    :param comparisons: what each is beside that which Voucherify has.
    :param superseded: places of those that are not sent, because a later one has the same id.
    """

    first: int
    ids: Sequence[str]
    records: Sequence[bytes]
    items: Sequence[bytes]
    comparisons: Sequence[Comparison]
    superseded: frozenset[int]


class ComparedPlan(Plan):
    """
    A plan whose batches are known once it has been told what Voucherify has: after ``read`` comes ``compare``.

    :param rule: what is compared, and which records may be sent. Where only new ones may, one that is there as it would
        be sent is unchanged and not refused: an earlier try may have created it.
    :ivar sent_before: whether an earlier try has sent something.
    """

    def __init__(self, rule: ReadBack, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rule = rule
        self._compares = rule.compare or rule.sync_mode == "create"
        self._keeps_items = not self._compares
        self.sent_before = False
        self._differences: Differences | None = None
        self.to_create = 0
        self.not_in_source: int | None = None

    @property
    def counts(self) -> Counts:
        """How many rows there were, and the outcome of those that are not in the batches."""
        return replace(
            super().counts, to_create=self.to_create, not_in_source=self.not_in_source, sent_before=self.sent_before
        )

    @property
    def compared_paths(self) -> list[Path]:
        """The fields of which ``compare`` has to know what Voucherify has, in the order of items; none, if only ids."""
        if not self._compares:
            return []
        if self.destination.sends_ids:
            return [("metadata", name) for name in self.destination.shared_metadata]
        return list(self._shapes.paths)

    def samples(self) -> list[bytes]:
        """Return the JSON of some records that could be sent."""
        return next(self._blocks_of_records(), [])

    def records(self) -> Iterator[bytes]:
        """Give the JSON of all records that could be sent, of each id the last one."""
        return chain.from_iterable(self._blocks_of_records())

    def _blocks_of_records(self) -> Iterator[list[bytes]]:
        begin, end = (text.encode() for text in self.destination.around_item)
        return ([begin + item + end for item in items] if begin else items for items in self._spool.blocks())

    @property
    def differences(self) -> Differences | None:
        """What would change, if ``compare`` was to note it."""
        return self._differences

    def compared(self, found: FoundRecords) -> Iterator[ComparedItems]:
        """Compare all that could be sent with what Voucherify has of ``compared_paths``, about a thousand at a time."""
        begin, end = (text.encode() for text in self.destination.around_item)
        superseded = iter(self._spool.superseded)
        skip = next(superseded, None)
        first = 0
        for ids, items in self._spool.all_blocks():
            records = [begin + item + end for item in items] if begin else items
            out = set()
            while skip is not None and skip < first + len(items):
                out.add(skip - first)
                skip = next(superseded, None)
            yield ComparedItems(first, ids, records, items, found.compare(ids, records), frozenset(out))
            first += len(items)

    def compare(self, found: FoundRecords, differences: Differences | None = None) -> None:
        """
        Leave out what Voucherify has already, refuse what may not be sent, and cut the rest into batches.

        :param found: what it has, of ``compared_paths``.
        :param differences: gets the records that are sent, with what they change; it is closed with the plan.
        """
        self._differences = differences
        to_send, absent, present = bytearray(self._spool.count), bytearray(self._spool.count), 0
        for some in self.compared(found):
            same = [comparison == "same" and self._compares for comparison in some.comparisons]
            for place in some.superseded:
                same[place] = False
            if self.ledger is not None and self._compares:
                self.ledger.add_records(some.ids, some.items, same)
            unchanged = sum(same)
            self.unchanged += unchanged
            present += unchanged
            if unchanged == len(same):
                continue
            for place, comparison in enumerate(some.comparisons):
                if same[place] or place in some.superseded:
                    continue
                number = some.first + place
                absent[number] = comparison == "absent"
                present += comparison != "absent"
                if (why := self._why_refused(comparison)) is not None:
                    self._refuse_item(why, number, some.ids[place], some.records[place])
                else:
                    to_send[number] = True
        self.not_in_source = found.number - present
        if self.ledger is not None:
            self._apply_state(self.ledger)
            to_send = bytearray(self._spool.count)
            for number in self.ledger.items_to_send():
                to_send[number] = True
        self.to_create = sum(map(and_, to_send, absent))
        if differences is not None:
            self._note_differences(found, differences, to_send)
        if not all(to_send):
            self._spools[0] = self._spool.only(compress(count(), to_send))
        self._pack()

    def _note_differences(self, found: FoundRecords, differences: Differences, to_send: bytearray) -> None:
        for some in self.compared(found):
            for place, comparison in enumerate(some.comparisons):
                if to_send[some.first + place]:
                    change = "create" if comparison == "absent" else "update"
                    looks = differences.has_room
                    fields = found.differences(some.ids[place], some.records[place]) if looks else ()
                    differences.add(some.ids[place], change, fields)

    def close(self) -> None:
        """Free the disk space."""
        super().close()
        if self._differences is not None:
            self._differences.close()

    def _select(self) -> None:
        """Wait for ``compare``."""

    def _why_refused(self, comparison: Comparison) -> RefusedRowError | None:
        if self._rule.sync_mode == "update" and comparison == "absent":
            return _NOT_FOUND
        if self._rule.sync_mode == "create" and comparison != "absent":
            return _EXISTS
        return None

    def _refuse_item(self, why: RefusedRowError, number: int, record_id: str, item: bytes) -> None:
        self._refused.add_record(Failure("refused", record_id, why.key, str(why)), msgspec.json.decode(item))
        if self.ledger is not None:
            self.ledger.refuse(number, why.key, str(why))
