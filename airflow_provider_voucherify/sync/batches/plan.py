"""From rows to batches that are ready to be sent: every row checked, counted and either spooled or refused."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import groupby
from typing import Any, Self

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.changes import Changes, find_removed, marks_of_removed, warn_of_returned
from airflow_provider_voucherify.sync.batches.destination import BatchLimits, Destination
from airflow_provider_voucherify.sync.batches.grouping import MetadataPlan, group_by_metadata
from airflow_provider_voucherify.sync.batches.refused_rows import RefusedRows
from airflow_provider_voucherify.sync.batches.shapes import Shape, Shapes
from airflow_provider_voucherify.sync.batches.spool import Batch, Spool
from airflow_provider_voucherify.sync.rows.chunks import BadLine, BlankRows, Chunk, Rows
from airflow_provider_voucherify.sync.rows.encoding import EncodedRows, UnfitRowsError, encode_json
from airflow_provider_voucherify.sync.rows.failure_lines import Attempts, EarlierFailures
from airflow_provider_voucherify.sync.rows.mapping import (
    MappingRules,
    check_mapping,
)
from airflow_provider_voucherify.sync.rows.odd_ids import OddIds
from airflow_provider_voucherify.sync.rows.record_builder import Record, RefusedRowError, Row
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.counts import Counts
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.hiding import Hiding
from airflow_provider_voucherify.sync.types.outcome import MAX_ATTEMPTS

log = logging.getLogger(__name__)

NEWER_SUCCESS = RefusedRowError("newer_success", "a sync after this failure has updated the record")

_decode = msgspec.json.Decoder(float_hook=Decimal).decode

_FEW = 8
"""Fewer rows than this are encoded one by one."""


class Plan:
    """
    What will be sent. A context manager; closing it frees the disk.

    ``rows_read + removed_to_mark`` is always the sum of the records of all ``batches``, ``refused``, ``superseded`` and
    ``unchanged``. ``warnings`` are for people to read; ``blank_rows`` are in no other count.

    :param destination: where to send.
    :param rules: how columns become fields.
    :param limits: how large a batch may be.
    :param keep_refused: whether to keep the rows for ``refused_lines``.
    :param ledger: keeps each row; None if counts are enough. It is closed with the plan.
    :param changes: which of the rows are sent.
    :param hiding: leaves ids and values out of what is told of rows.
    :param metadata_plan: which records that have only metadata go to ``metadata/async``, see ``grouping``.
    """

    _keeps_items = True

    def __init__(
        self,
        destination: Destination,
        rules: MappingRules | None = None,
        limits: BatchLimits | None = None,
        *,
        keep_refused: bool = False,
        metadata_plan: MetadataPlan = "bulk",
        ledger: Ledger | None = None,
        changes: Changes | None = None,
        hiding: Hiding | None = None,
    ) -> None:
        self.destination = destination
        self._rules = rules or MappingRules()
        self._limits = limits or BatchLimits()
        check_mapping(destination.fields_of, self._rules)
        if destination.form.overhead >= self._limits.max_bytes:
            raise VoucherifyConfigurationError(
                f"metadata alone takes {destination.form.overhead:,} bytes, which leaves no room for an id in a body "
                f"of {self._limits.max_bytes:,} bytes"
            )
        self._spool = Spool(destination)
        self._spools = [self._spool]
        self._room = self._limits.max_bytes - destination.form.overhead
        self._metadata_plan = metadata_plan
        self._refused = RefusedRows(self._rules, keep_lines=keep_refused, hiding=hiding)
        self._shapes = Shapes(destination, self._rules, self.warn, ledger)
        self.rows_read = 0
        self.blank_rows = 0
        self.superseded = 0
        self.unchanged = 0
        self.removed = 0
        self.removed_to_mark = 0
        self.warnings: list[str] = []
        self._odd_ids = OddIds(shows_examples=hiding is None)
        self.failed_before = EarlierFailures()
        self._sends_failures_again = False
        self.ledger = ledger
        self._changes = changes or Changes()
        self.batches: list[Batch] = []

    def read(self, rows: Rows) -> None:
        """
        Read a source to its end, check every row, and cut what may be sent into batches.

        :raises VoucherifyConfigurationError: the columns do not fit the resource or the mapping.
        """
        for chunk in rows:
            if isinstance(chunk, BadLine):
                self.rows_read += 1
                record_id = chunk.row.get(self.destination.endpoint.key)
                known = record_id if isinstance(record_id, str) else None
                self._refuse(RefusedRowError("invalid_line", chunk.why), known, dict(chunk.row))
            elif isinstance(chunk, BlankRows):
                self.blank_rows += chunk.number
            else:
                self._take(chunk)
        self._shapes.warn_of_absent()
        for warning in self._odd_ids.warnings():
            self.warn(warning)
        self.superseded += self._spool.find_superseded()
        self._select()

    def _select(self) -> None:
        """Leave out what need not be sent, and cut the rest into batches."""
        if self.ledger is not None and self._apply_state(self.ledger):
            self._spools[0] = self._spool.only(self.ledger.items_to_send())
        self._pack()

    def _pack(self) -> None:
        self.batches = self._cut(self._spools)
        if self._metadata_plan != "bulk":
            self._send_equal_metadata_once()

    def _cut(self, spools: Iterable[Spool]) -> list[Batch]:
        batches: list[Batch] = []
        for spool in spools:
            batches += spool.batches(self._limits.max_bytes, self._limits.max_records, len(batches) + 1)
        return batches

    def _send_equal_metadata_once(self) -> None:
        records, *others = self._spools
        grouped = group_by_metadata(records, self._metadata_plan, self._limits)
        if grouped is None:
            return
        batches = self._cut([*grouped, *others])
        if self._metadata_plan == "auto" and len(batches) > len(self.batches):  # space is lost at the end of each body
            for spool in grouped:
                spool.close()
            return
        records.close()
        self._spools, self.batches = [*grouped, *others], batches

    def add_subset(self, batch: Batch, ids: Collection[str]) -> Batch | None:
        """Append a batch with some of the records of another and return it; None if not all ids are in that batch."""
        subset = batch.spool.subset(batch, len(self.batches) + 1, ids)
        if subset.records != len(ids):
            return None
        self.batches.append(subset)
        return subset

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Replace a batch by two halves: the first keeps its number, the second comes last."""
        halves = batch.spool.halves(batch, len(self.batches) + 1)
        self.batches[batch.number - 1] = halves[0]
        self.batches.append(halves[1])
        return halves

    @property
    def counts(self) -> Counts:
        """How many rows there were, and the outcome of those that are not in the batches."""
        return Counts(
            self.rows_read,
            self.blank_rows,
            self.unchanged,
            self.refused,
            self.superseded,
            self.removed,
            self.removed_to_mark,
            refused_by_key=dict(self.refused_by_key),
        )

    @property
    def bytes_to_send(self) -> int:
        """Bytes of all bodies."""
        return sum(batch.length for batch in self.batches)

    @property
    def requests_by_endpoint(self) -> dict[str, int]:
        """Number of requests by path."""
        return dict(Counter(batch.destination.endpoint.path for batch in self.batches))

    @property
    def refused(self) -> int:
        """How many rows and records are refused."""
        return self._refused.number

    @property
    def refused_by_key(self) -> Counter[str]:
        """Number of refused rows and records by the key of the reason."""
        return self._refused.by_key

    @property
    def refused_sample(self) -> list[Failure]:
        """The first refused rows and records."""
        return self._refused.sample

    @property
    def refused_reasons(self) -> list[dict[str, Any]]:
        """How many are refused, by what the reason says; see ``types.reasons``."""
        return self._refused.reasons.most_frequent()

    def refused_lines(self) -> Iterator[bytes]:
        """Yield the refused rows as lines of ``failures.jsonl``; needs ``keep_refused``."""
        return self._refused.lines()

    def set_aside_lines(self) -> Iterator[bytes]:
        """Yield the records that have failed too often as lines of ``set_aside.jsonl``; needs ``keep_refused``."""
        return self._refused.set_aside_lines()

    def close(self) -> None:
        """Free the disk space."""
        for spool in self._spools:
            spool.close()
        self.failed_before.close()
        if self.ledger is not None:
            self.ledger.close()
        self._refused.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _apply_state(self, ledger: Ledger) -> bool:
        """Find what is not to be sent again and which records left the source; say whether any item is not sent."""
        ledger.supersede(self._spool.superseded)
        if not ledger.known:
            return False
        set_aside = 0
        if self._changes.max_attempts is not None and not ledger.sends_everything:
            set_aside = ledger.failing.set_aside(self._changes.max_attempts, self._changes.expected_keys)
            self._write_down_set_aside(ledger)
        self.unchanged = ledger.unchanged
        self._find_removed(ledger)
        return bool(self.unchanged or set_aside)

    def _write_down_set_aside(self, ledger: Ledger) -> None:
        items = ledger.failing.aside()
        lines = self._spool.items(item for item, *_ in ledger.failing.aside())
        for (_, failure, attempts), line in zip(items, lines, strict=True):
            content = _decode(line)
            record = {self.destination.endpoint.key: content} if self.destination.sends_ids else content
            self._refused.set_aside(failure, record, attempts)

    def _find_removed(self, ledger: Ledger) -> None:
        removed = self._changes.removed
        if isinstance(removed, Destination):
            warn_of_returned(ledger, removed, self.warn)
        if self._sends_failures_again and removed != "ignore":
            log.info("Failures are sent again, which is not the whole source: no record counts as removed")
            return
        self.removed = find_removed(ledger, self._changes, self.rows_read, self.warn)
        if self.removed and isinstance(removed, Destination):
            self._spools.append(marks_of_removed(ledger, removed))
            self.removed_to_mark = self.removed

    def warn(self, warning: str) -> None:
        """Log a warning and keep it for the summary."""
        log.warning("%s", warning)
        self.warnings.append(warning)

    def _take(self, chunk: Chunk) -> None:
        if chunk.failures:
            self._take_failed(chunk)
            return
        shape: Shape | None = None
        unmappable = RefusedRowError("missing_key", f"{self.destination.endpoint.key} is missing")
        try:
            shape = self._shapes.of(chunk)
        except RefusedRowError as error:
            unmappable = error
        if shape is None:
            for row in chunk.rows:
                self.rows_read += 1
                self._refuse(unmappable, None, dict(zip(chunk.columns, row, strict=True)))
            return
        lines: list[bytes] = []
        ids: list[str] = []
        keys: list[Any] | None = []
        made_of: list[Any] = []
        for encoded in self._encoded(shape, chunk.columns, chunk.rows):
            lines.append(encoded.lines)
            ids += encoded.ids
            made_of += encoded.made_of
            keys = None if keys is None or encoded.keys is None else [*keys, *encoded.keys]
        self._odd_ids.look_at(ids)
        joined = b"".join(lines)
        self._spool.add(joined, ids, keys)
        if self.ledger is not None and self._keeps_items:
            items = joined.split(b"\n")[:-1]
            self.ledger.add_records(ids, items, fields_key=lambda place: shape.fields_key(made_of[place]))

    def _take_failed(self, chunk: Chunk) -> None:
        """Take lines of a ``failures.jsonl``, except records that failed too often or were updated since."""
        self._sends_failures_again = True
        ids = self._ids_in(chunk)
        before = [Attempts.read(failure) for failure in chunk.failures]
        if chunk.are_records:
            known = zip(ids, chunk.failures, strict=True)
            self.failed_before.add((record_id, failure) for record_id, failure in known if record_id is not None)

        def why_not(place: int) -> RefusedRowError | None:
            return self._why_not_again(ids[place], before[place], chunk)

        for why, places in groupby(range(len(chunk.rows)), key=why_not):
            some = list(places)
            if why is None:
                self._take(replace(chunk, rows=[chunk.rows[place] for place in some], failures=()))
                continue
            for place in some:
                self.rows_read += 1
                if why is NEWER_SUCCESS:
                    self.superseded += 1
                    self._leave_out(Failure("superseded", ids[place], why.key, str(why), row=self.rows_read))
                else:
                    failure = Failure("refused", ids[place], why.key, str(why), row=self.rows_read)
                    record = dict(zip(chunk.columns, chunk.rows[place], strict=True))
                    self._refused.set_aside(failure, record, before[place])
                    self._leave_out(failure)

    def _why_not_again(self, record_id: str | None, before: Attempts, chunk: Chunk) -> RefusedRowError | None:
        if record_id is None:
            return None
        limit = self._changes.max_attempts
        if chunk.are_records and limit is not None and before.number >= limit:
            return RefusedRowError(MAX_ATTEMPTS, before.why_set_aside)
        if self.ledger is not None and self.ledger.was_updated_after(record_id, before.at):
            return NEWER_SUCCESS
        return None

    def _ids_in(self, chunk: Chunk) -> list[str | None]:
        try:
            shape = self._shapes.of(chunk)
        except RefusedRowError:
            shape = None
        return [None if shape is None else shape.builder.record_id(row) for row in chunk.rows]

    def _encoded(self, shape: Shape, columns: Sequence[str], rows: Sequence[Row]) -> Iterator[EncodedRows]:
        """Encode rows together; if one does not fit, halves of them, down to a few that are encoded one by one."""
        if len(rows) >= _FEW and shape.encoder is not None:
            try:
                encoded = shape.encoder.encode(rows)
            except UnfitRowsError:
                middle = len(rows) // 2
                yield from self._encoded(shape, columns, rows[:middle])
                yield from self._encoded(shape, columns, rows[middle:])
                return
            if len(encoded.lines) <= self._room or max(map(len, encoded.lines.split(b"\n"))) <= self._room:
                self.rows_read += len(rows)
                yield encoded
                return
        for row in rows:
            self.rows_read += 1
            try:
                record = shape.builder.build(row)
                line = self._line(record)
                yield EncodedRows(line, (record[shape.builder.key],), None, (line,))
            except RefusedRowError as why:
                self._refuse(why, shape.builder.record_id(row), dict(zip(columns, row, strict=True)))

    def _line(self, record: Record) -> bytes:
        try:
            item = encode_json(record[self.destination.endpoint.key] if self.destination.sends_ids else record)
        except (TypeError, ValueError, RecursionError) as why:
            raise RefusedRowError("invalid_value", f"cannot be written as JSON: {why}") from None
        if len(item) > self._room:
            raise RefusedRowError(
                "record_too_large",
                f"alone takes {len(item) + self.destination.form.overhead:,} bytes, and a request may have "
                f"{self._limits.max_bytes:,}",
            )
        return item + b"\n"

    def _refuse(self, why: RefusedRowError, record_id: str | None, row: dict[str, Any]) -> None:
        hint = self._refused.hint(row) if record_id is None else None
        failure = Failure("refused", record_id, why.key, str(why), row=self.rows_read, hint=hint)
        self._refused.add_row(failure, row)
        self._leave_out(failure)

    def _leave_out(self, failure: Failure) -> None:
        if self.ledger is not None:
            self.ledger.leave_out(failure)
