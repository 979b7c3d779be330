"""From rows to batches that are ready to be sent: every row checked, counted and either spooled or refused."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from itertools import groupby, islice
from typing import Any, Literal, Self

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import BatchLimits, Destination
from airflow_provider_voucherify.sync.batches.grouping import MetadataPlan, group_by_metadata
from airflow_provider_voucherify.sync.batches.spool import Batch, Spool, decode_id
from airflow_provider_voucherify.sync.rows.chunks import ROWS_PER_CHUNK, BadLine, BlankRows, Chunk, Rows
from airflow_provider_voucherify.sync.rows.encoding import (
    EncodedRows,
    RowsEncoder,
    UnfitRowsError,
    encode_json,
    rows_encoder,
)
from airflow_provider_voucherify.sync.rows.failure_lines import Attempts, EarlierFailures, failure_line
from airflow_provider_voucherify.sync.rows.mapping import (
    MappingRules,
    Record,
    RecordBuilder,
    RefusedRowError,
    Row,
    check_columns,
    check_mapping,
    compile_mapping,
    unnamed_columns,
)
from airflow_provider_voucherify.sync.rows.odd_ids import OddIds
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.counts import Counts
from airflow_provider_voucherify.sync.types.failure import SAMPLE_SIZE, Failure
from airflow_provider_voucherify.sync.types.outcome import MAX_ATTEMPTS
from airflow_provider_voucherify.sync.types.text import json_safe_text

log = logging.getLogger(__name__)


MAX_HINT = 60
"""Characters of a value that a row without an id is found by."""

NEWER_SUCCESS = RefusedRowError("newer_success", "a sync after this failure has updated the record")

_decode = msgspec.json.Decoder(float_hook=Decimal).decode

_MAX_SHAPES = 1_000
_FEW = 8


@dataclass(frozen=True)
class _Shape:
    """
    How the rows of one list of columns become items.

    :param columns: how many values a row has.
    """

    builder: RecordBuilder
    columns: int
    ids_only: bool

    @cached_property
    def encoder(self) -> RowsEncoder | None:
        """Encodes many rows at once; made where there are many."""
        return rows_encoder(self.builder, self.columns, ids_only=self.ids_only)


@dataclass(frozen=True, slots=True)
class Changes:
    """
    What of a source is sent, where earlier failures or the state of earlier syncs are known.

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


class Plan:
    """
    What will be sent. A context manager; closing it frees the disk.

    ``rows_read + removed_to_mark`` is always the sum of the records of all ``batches``, ``refused``, ``superseded`` and
    ``unchanged``. ``warnings`` has what deserves a look, in words, and ``blank_rows`` are in no other count.

    :param destination: where to send.
    :param rules: how columns become fields.
    :param limits: how large a batch may be.
    :param keep_refused: whether ``refused_lines`` will be asked for.
    :param ledger: remembers each row; None where counts are enough. It is closed with the plan.
    :param changes: what is sent of the rows.
    :param metadata_plan: of records of nothing but metadata: which go to ``metadata/async``, see ``grouping``.
    """

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
        self._spool = Spool(destination, decode_id if destination.sends_ids else _id_reader(destination.endpoint.key))
        self._spools = [self._spool]
        self._room = self._limits.max_bytes - destination.form.overhead
        self._metadata_plan = metadata_plan
        self._refused_file = tempfile.TemporaryFile() if keep_refused else None  # noqa: SIM115
        self._set_aside_file = tempfile.TemporaryFile() if keep_refused else None  # noqa: SIM115
        self._shapes: dict[tuple[tuple[str, ...], bool], _Shape] = {}
        self._read_at = time.time()
        self.rows_read = 0
        self.blank_rows = 0
        self.refused = 0
        self.refused_by_key: Counter[str] = Counter()
        self.refused_sample: list[Failure] = []
        self.superseded = 0
        self.unchanged = 0
        self.removed = 0
        self.removed_to_mark = 0
        self.warnings: list[str] = []
        self._odd_ids = OddIds()
        self._left_out: set[str] = set()
        self._padded: set[str] = set()
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
        for warning in self._odd_ids.warnings():
            self.warn(warning)
        self.superseded += self._spool.find_superseded()
        if self.ledger is not None:
            self._look_at_earlier_syncs(self.ledger)
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
        if self._metadata_plan == "auto" and len(batches) > len(self.batches):  # what is lost at the edges of bodies
            for spool in grouped:
                spool.close()
            return
        records.close()
        self._spools, self.batches = [*grouped, *others], batches

    def add_subset(self, batch: Batch, ids: Collection[str]) -> Batch | None:
        """Append a batch with some of the records of another and return it; None if not all the ids are of that one."""
        subset = batch.spool.subset(batch, len(self.batches) + 1, ids)
        if subset.records != len(ids):
            return None
        self.batches.append(subset)
        return subset

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Put two halves in the place of a batch: the first has its number, the second comes last."""
        halves = batch.spool.halves(batch, len(self.batches) + 1)
        self.batches[batch.number - 1] = halves[0]
        self.batches.append(halves[1])
        return halves

    @property
    def counts(self) -> Counts:
        """How many rows there were, and what became of those that are not in the batches."""
        return Counts(
            self.rows_read,
            self.blank_rows,
            self.unchanged,
            self.refused,
            self.superseded,
            self.removed,
            self.removed_to_mark,
            dict(self.refused_by_key),
        )

    @property
    def bytes_to_send(self) -> int:
        """Bytes of all bodies."""
        return sum(batch.length for batch in self.batches)

    @property
    def requests_by_endpoint(self) -> dict[str, int]:
        """Requests by the path that they go to."""
        return dict(Counter(batch.destination.endpoint.path for batch in self.batches))

    def refused_lines(self) -> Iterator[bytes]:
        """Give the refused rows as lines of ``failures.jsonl``; needs ``keep_refused``."""
        if self._refused_file is not None:
            self._refused_file.seek(0)
            yield from self._refused_file

    def set_aside_lines(self) -> Iterator[bytes]:
        """Give the records that have failed too often as lines of ``set_aside.jsonl``; needs ``keep_refused``."""
        if self._set_aside_file is not None:
            self._set_aside_file.seek(0)
            yield from self._set_aside_file

    def close(self) -> None:
        """Give the disk space back."""
        for spool in self._spools:
            spool.close()
        self.failed_before.close()
        if self.ledger is not None:
            self.ledger.close()
        for file in (self._refused_file, self._set_aside_file):
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look_at_earlier_syncs(self, ledger: Ledger) -> None:
        """Leave out what Voucherify has already, and find what left the source."""
        ledger.supersede(self._spool.superseded)
        if not ledger.known:
            return
        set_aside = 0
        if self._changes.max_attempts is not None and not ledger.sends_everything:
            set_aside = ledger.set_aside(self._changes.max_attempts)
            self._write_down_set_aside(ledger)
        self.unchanged = ledger.unchanged
        if self.unchanged or set_aside:
            self._spools[0] = self._spool.only(ledger.items_to_send())
        self._tell_returned(ledger)
        self._find_removed(ledger)

    def _tell_returned(self, ledger: Ledger) -> None:
        """Warn of records that have come back to the source while Voucherify has them marked."""
        if not isinstance(self._changes.removed, Destination):
            return
        marked = [f"metadata.{name}" for name in self._changes.removed.shared_metadata]
        if back := ledger.removed.count_returned(marked):
            self.warn(
                f"{back:,} records that were marked as removed are in the source again, and stay marked: the source "
                f"needs a column for each of {', '.join(marked)}, with the value of records that are there"
            )

    def _write_down_set_aside(self, ledger: Ledger) -> None:
        items = ledger.aside()
        lines = self._spool.items(item for item, *_ in ledger.aside())
        for (_, failure, attempts), line in zip(items, lines, strict=True):
            content = _decode(line)
            record = {self.destination.endpoint.key: content} if self.destination.sends_ids else content
            self._set_aside(failure, record, attempts)

    def _find_removed(self, ledger: Ledger) -> None:
        removed, most = self._changes.removed, self._changes.max_removed_ratio
        if removed == "ignore":
            return
        if self._sends_failures_again:
            log.info("Failures are sent again, which is not the whole source: no record is taken for removed")
            return
        if not self.rows_read:
            self.warn("the source has no rows at all, so no record is taken for removed")
            return
        if ledger.has_rows_without_id:
            self.warn("there are rows without an id, which could be anyone's, so no record is taken for removed")
            return
        gone, had = ledger.removed.find(to_be_marked=isinstance(removed, Destination))
        if most is not None and gone > had * most:
            ledger.removed.forget()
            self.warn(
                f"{gone:,} of {had:,} records have left the source, more than max_removed_ratio={most} allows, so none "
                "is taken for removed"
            )
            return
        self.removed = gone
        if gone and isinstance(removed, Destination):
            spool = Spool(removed, decode_id)
            ids = ledger.removed.ids()
            while some := list(islice(ids, ROWS_PER_CHUNK)):
                spool.add_distinct(b"".join(encode_json(record_id) + b"\n" for record_id in some), len(some))
            self._spools.append(spool)
            self.removed_to_mark = gone

    def warn(self, warning: str) -> None:
        """Note what deserves a look."""
        log.warning("%s", warning)
        self.warnings.append(warning)

    def _take(self, chunk: Chunk) -> None:
        if chunk.failures:
            self._take_failed(chunk)
            return
        shape: _Shape | None = None
        unmappable = RefusedRowError("missing_key", f"{self.destination.endpoint.key} is missing")
        try:
            shape = self._shape(chunk)
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
        for encoded in self._encoded(shape, chunk.columns, chunk.rows):
            lines.append(encoded.lines)
            ids += encoded.ids
            keys = None if keys is None or encoded.keys is None else [*keys, *encoded.keys]
        self._odd_ids.look_at(ids)
        joined = b"".join(lines)
        self._spool.add(joined, ids, keys)
        if self.ledger is not None:
            self.ledger.add_records(ids, joined.split(b"\n")[:-1])

    def _take_failed(self, chunk: Chunk) -> None:
        """Take lines of a ``failures.jsonl``, but for records that failed too often or are newer by now."""
        self._sends_failures_again = True
        ids = self._ids_in(chunk)
        before = [Attempts.read(told) for told in chunk.failures]
        if chunk.are_records:
            known = zip(ids, chunk.failures, strict=True)
            self.failed_before.add((record_id, told) for record_id, told in known if record_id is not None)

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
                    self._set_aside(failure, record, before[place])
                    self._leave_out(failure)

    def _why_not_again(self, record_id: str | None, before: Attempts, chunk: Chunk) -> RefusedRowError | None:
        if record_id is None:
            return None
        most = self._changes.max_attempts
        if chunk.are_records and most is not None and before.number >= most:
            return RefusedRowError(MAX_ATTEMPTS, f"failed {before.number} times and is not sent again")
        if self.ledger is not None and self.ledger.was_updated_after(record_id, before.at):
            return NEWER_SUCCESS
        return None

    def _ids_in(self, chunk: Chunk) -> list[str | None]:
        try:
            shape = self._shape(chunk)
        except RefusedRowError:
            shape = None
        return [None if shape is None else shape.builder.record_id(row) for row in chunk.rows]

    def _encoded(self, shape: _Shape, columns: Sequence[str], rows: Sequence[Row]) -> Iterator[EncodedRows]:
        """Encode rows together; where one does not fit, halves of them, down to a few that are looked at singly."""
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
                yield EncodedRows(self._line(record), (record[shape.builder.key],), None)
            except RefusedRowError as why:
                self._refuse(why, shape.builder.record_id(row), dict(zip(columns, row, strict=True)))

    def _shape(self, chunk: Chunk) -> _Shape | None:
        """Return how the chunk's rows become items; None where rows without fixed columns have no key column."""
        if not chunk.fixed_columns and not self._has_key(chunk):
            return None
        name = (chunk.columns, chunk.are_records)
        if name not in self._shapes:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            rules = (
                MappingRules(null_policy="send", schema=self._rules.schema)
                if chunk.are_records
                else self._rules_for(chunk)
            )
            if self.destination.sends_ids:
                rules = replace(rules, metadata_columns=())
            try:
                builder = compile_mapping(self.destination.fields_of, chunk.columns, rules)
            except VoucherifyConfigurationError as error:
                if chunk.fixed_columns:
                    said = f"{error} ({chunk.hint})" if chunk.hint else str(error)
                    raise VoucherifyConfigurationError(f"{chunk.file}: {said}" if chunk.file else said) from None
                raise RefusedRowError("unmappable", str(error)) from None
            self._tell_left_out(unnamed_columns(chunk.columns, rules))
            if rules.mapping is None:
                self._tell_padded(chunk.columns[to.column] for to in builder.targets)
            self._shapes[name] = _Shape(builder, len(chunk.columns), self.destination.sends_ids)
            if self.ledger is not None:
                self.ledger.fields.note_targets((".".join(to.path), chunk.columns[to.column]) for to in builder.targets)
        return self._shapes[name]

    def _tell_left_out(self, columns: Sequence[str]) -> None:
        if new := [name for name in columns if name not in self._left_out]:
            self._left_out.update(new)
            self.warn(
                f"columns without a name of their own are not sent: {', '.join(map(repr, new))}; exclude_columns "
                "leaves them out without this warning, and mapping sends them"
            )

    def _tell_padded(self, columns: Iterable[str]) -> None:
        if new := [name for name in columns if name != name.strip() and name not in self._padded]:
            self._padded.update(new)
            self.warn(
                f"columns whose names begin or end with a blank are members of metadata by these names: "
                f"{', '.join(map(repr, new))}; csv_dialect={{'skipinitialspace': True}} reads a CSV file that has "
                "blanks after its separators, and mapping gives other names"
            )

    def _rules_for(self, chunk: Chunk) -> MappingRules:
        """Rows without fixed columns may lack any column that the rules name."""
        rules = self._rules
        if self.destination.sends_ids:  # which have no nulls: the policy is about the one metadata object
            rules = replace(rules, null_policy="omit")
        if chunk.fixed_columns:
            check_columns(chunk.columns, rules)
            return rules
        present = {name: target for name, target in (rules.mapping or {}).items() if name in chunk.columns}
        return replace(
            rules,
            mapping=None if rules.mapping is None else present,
            metadata_columns=None
            if rules.metadata_columns is None
            else [name for name in rules.metadata_columns if name in chunk.columns],
        )

    def _has_key(self, chunk: Chunk) -> bool:
        key = self.destination.endpoint.key
        if chunk.are_records:
            return key in chunk.columns
        if self._rules.mapping is None:
            return any(name.lower() == key for name in chunk.columns if name not in self._rules.exclude_columns)
        return any(target == key and name in chunk.columns for name, target in self._rules.mapping.items())

    def _line(self, record: Record) -> bytes:
        try:
            item = encode_json(record[self.destination.endpoint.key] if self.destination.sends_ids else record)
        except (TypeError, ValueError, RecursionError) as why:
            raise RefusedRowError("invalid_value", f"cannot be written as JSON: {why}") from None
        if len(item) > self._room:
            raise RefusedRowError(
                "record_too_large",
                f"takes {len(item) + self.destination.form.overhead:,} bytes alone, and a request may have "
                f"{self._limits.max_bytes:,}",
            )
        return item + b"\n"

    def _refuse(self, why: RefusedRowError, record_id: str | None, row: dict[str, Any]) -> None:
        hint = self._hint(row) if record_id is None else None
        failure = Failure("refused", record_id, why.key, str(why), row=self.rows_read, hint=hint)
        self._count_refused(failure)
        if self._refused_file is not None:
            self._refused_file.write(failure_line(failure, "row", row, at=self._read_at))
        self._leave_out(failure)

    def _hint(self, row: Mapping[str, Any]) -> str | None:
        """Return a column that a row without an id can be found by, e.g. ``name 'Ann'``."""
        rules = self._rules
        if len(self.refused_sample) == SAMPLE_SIZE:
            return None
        for name, value in row.items():
            is_sent = name not in rules.exclude_columns and (rules.mapping is None or name in rules.mapping)
            if is_sent and isinstance(value, str | int) and (text := json_safe_text(value)).strip():
                return f"{name} {text if isinstance(value, int) else repr(value):.{MAX_HINT}}"
        return None

    def _set_aside(self, failure: Failure, record: Mapping[str, Any], attempts: Attempts) -> None:
        """Refuse a record that has failed too often."""
        self._count_refused(failure)
        if self._set_aside_file is not None:
            self._set_aside_file.write(failure_line(failure, "record", record, attempts))

    def _count_refused(self, failure: Failure) -> None:
        self.refused += 1
        self.refused_by_key[str(failure.key)] += 1
        if len(self.refused_sample) < SAMPLE_SIZE:
            self.refused_sample.append(failure)

    def _leave_out(self, failure: Failure) -> None:
        if self.ledger is not None:
            self.ledger.leave_out(failure)


def _id_reader(key: str) -> Callable[[bytes], str]:
    """Return a function that reads the id of an encoded record."""
    decode = msgspec.json.Decoder(msgspec.defstruct("record", [("id", str)], rename={"id": key})).decode
    return lambda item: decode(item).id  # type: ignore[attr-defined]
