"""From rows to batches that are ready to be sent: every row checked, counted and either spooled or refused."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import msgspec

from airflow_provider_voucherify.models.endpoints import (
    MAX_BODY_BYTES,
    METADATA_ENDPOINTS,
    RESOURCES,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.failures import Failure, failure_line
from airflow_provider_voucherify.sync.mapping import (
    MappingRules,
    RecordBuilder,
    RefusedRowError,
    check_columns,
    check_mapping,
    compile_mapping,
)
from airflow_provider_voucherify.sync.sources import BadLine, Chunk, Rows
from airflow_provider_voucherify.sync.spool import Batch, BodyForm, Spool
from airflow_provider_voucherify.sync.values import RefusedValueError, to_object

SAMPLE_SIZE = 10
"""Failures that a summary shows."""

_MAX_BUILDERS = 1_000


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Which endpoint the batches go to, and what its bodies look like.

    :param endpoint: where to send.
    :param fields_of: the endpoint whose fields the rows' columns may become.
    :param form: what each body has around its items.
    """

    endpoint: BulkEndpoint
    fields_of: BulkEndpoint
    form: BodyForm


def update_destination(resource: str) -> Destination:
    """Whole records: ``POST /v1/{resource}/bulk/async``."""
    endpoint = _endpoint(UPDATE_ENDPOINTS, resource)
    return Destination(endpoint, endpoint, BodyForm(b"[", b"]"))


def metadata_destination(resource: str, metadata: Mapping[str, Any] | None) -> Destination:
    """
    Metadata only.

    One ``metadata`` for all ids goes to ``metadata/async``, which takes a list of ids. Metadata per row goes to
    ``bulk/async`` as records of nothing but the id and its metadata: one request holds tens of thousands of different
    ones, where ``metadata/async`` would need a request for each.
    """
    if metadata is None:
        endpoint = _endpoint(UPDATE_ENDPOINTS, resource)
        return Destination(endpoint, _endpoint(METADATA_ENDPOINTS, resource), BodyForm(b"[", b"]"))
    endpoint = _endpoint(METADATA_ENDPOINTS, resource)
    only_key = replace(endpoint, fields={endpoint.key: endpoint.fields[endpoint.key]}, required=(endpoint.key,))
    try:
        converted = to_object(metadata)
        encoded = msgspec.json.Encoder(decimal_format="number").encode(converted)
    except (RefusedValueError, TypeError, ValueError) as why:
        raise VoucherifyConfigurationError(f"metadata {why}") from None
    if not converted:
        raise VoucherifyConfigurationError("metadata is empty, there is nothing to update")
    form = BodyForm(b'{"%s":[' % str(endpoint.ids_field).encode(), b'],"metadata":' + encoded + b"}")
    return Destination(endpoint, only_key, form)


def _endpoint(table: Mapping[str, BulkEndpoint], resource: str) -> BulkEndpoint:
    if resource not in table:
        raise VoucherifyConfigurationError(f"unknown resource {resource!r}: it must be one of {', '.join(RESOURCES)}")
    return table[resource]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """
    How large a batch may be.

    :param max_bytes: bytes of a body; the API takes 10,485,760.
    :param max_records: records in a body; None for as many as fit, since the API has no such limit any more.
    """

    max_bytes: int = MAX_BODY_BYTES
    max_records: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_bytes <= MAX_BODY_BYTES:
            raise VoucherifyConfigurationError(
                f"max_batch_bytes must be from 1 to {MAX_BODY_BYTES}, which is the most that Voucherify takes"
            )
        if self.max_records is not None and self.max_records < 1:
            raise VoucherifyConfigurationError("max_batch_records must be at least 1")


class Plan:
    """
    What will be sent. A context manager; closing it frees the disk.

    ``rows_read`` is always the sum of the records of all ``batches``, ``refused`` and ``superseded``.

    :param destination: where to send.
    :param rules: how columns become fields.
    :param limits: how large a batch may be.
    :param keep_refused: whether ``refused_lines`` will be asked for.
    """

    def __init__(
        self,
        destination: Destination,
        rules: MappingRules | None = None,
        limits: BatchLimits | None = None,
        *,
        keep_refused: bool = False,
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
        self._spool = Spool()
        self._refused_file = tempfile.TemporaryFile() if keep_refused else None  # noqa: SIM115
        self._encode = msgspec.json.Encoder(decimal_format="number").encode
        self._builders: dict[tuple[tuple[str, ...], bool], RecordBuilder] = {}
        self.rows_read = 0
        self.refused = 0
        self.refused_by_key: Counter[str] = Counter()
        self.refused_sample: list[Failure] = []
        self.superseded = 0
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
                self._refuse(RefusedRowError("invalid_line", chunk.why), record_id, dict(chunk.row))
            else:
                self._take(chunk)
        self.superseded = self._spool.find_superseded(self._id_of)
        self.batches = list(
            self._spool.batches(self.destination.form, self._limits.max_bytes, self._limits.max_records)
        )

    def add_subset(self, batch: Batch, ids: Container[str]) -> Batch:
        """Append a batch with some of the records of another and return it."""
        number = len(self.batches) + 1
        self.batches.append(self._spool.subset(batch, number, self.destination.form, ids, self._id_of))
        return self.batches[-1]

    def body(self, batch: Batch) -> Iterator[bytes]:
        """Give a batch's body, ``batch.length`` bytes in all, piece by piece."""
        return self._spool.body(batch, self.destination.form)

    @property
    def bytes_to_send(self) -> int:
        """Bytes of all bodies."""
        return sum(batch.length for batch in self.batches)

    def refused_lines(self) -> Iterator[bytes]:
        """Give the refused rows as lines of ``failures.jsonl``; needs ``keep_refused``."""
        if self._refused_file is not None:
            self._refused_file.seek(0)
            yield from self._refused_file

    def close(self) -> None:
        """Give the disk space back."""
        self._spool.close()
        if self._refused_file is not None:
            self._refused_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, chunk: Chunk) -> None:
        builder: RecordBuilder | None = None
        unmappable = RefusedRowError("missing_key", f"{self.destination.endpoint.key} is missing")
        try:
            builder = self._builder(chunk)
        except RefusedRowError as error:
            unmappable = error
        items: list[bytes] = []
        ids: list[str] = []
        for row in chunk.rows:
            self.rows_read += 1
            try:
                if builder is None:
                    raise unmappable
                record = builder.build(row)
                items.append(self._encoded(record))
                ids.append(record[builder.key])
            except RefusedRowError as why:
                record_id = builder.record_id(row) if builder is not None else None
                self._refuse(why, record_id, dict(zip(chunk.columns, row, strict=True)))
        self._spool.add(items, ids)

    def _builder(self, chunk: Chunk) -> RecordBuilder | None:
        """Return the chunk's builder; None where rows without fixed columns have no key column."""
        if not chunk.fixed_columns and not self._has_key(chunk):
            return None
        shape = (chunk.columns, chunk.are_records)
        if shape not in self._builders:
            if len(self._builders) >= _MAX_BUILDERS:
                self._builders.clear()
            rules = MappingRules(null_policy="send") if chunk.are_records else self._rules_for(chunk)
            if self._sends_ids:
                rules = replace(rules, metadata_columns=())
            try:
                self._builders[shape] = compile_mapping(self.destination.fields_of, chunk.columns, rules)
            except VoucherifyConfigurationError as error:
                if chunk.fixed_columns:
                    raise
                raise RefusedRowError("unmappable", str(error)) from None
        return self._builders[shape]

    def _rules_for(self, chunk: Chunk) -> MappingRules:
        """Rows without fixed columns may lack any column that the rules name."""
        rules = self._rules
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

    def _encoded(self, record: dict[str, Any]) -> bytes:
        try:
            item = self._encode(record[self.destination.endpoint.key] if self._sends_ids else record)
        except (TypeError, ValueError, RecursionError) as why:
            raise RefusedRowError("invalid_value", f"cannot be written as JSON: {why}") from None
        size = len(item) + self.destination.form.overhead
        if size > self._limits.max_bytes:
            raise RefusedRowError(
                "record_too_large",
                f"takes {size:,} bytes alone, and a request may have {self._limits.max_bytes:,}",
            )
        return item

    @property
    def _sends_ids(self) -> bool:
        return self.destination.endpoint.ids_field is not None

    def _id_of(self, item: bytes) -> str:
        decoded = msgspec.json.decode(item)
        return str(decoded if self._sends_ids else decoded[self.destination.endpoint.key])

    def _refuse(self, why: RefusedRowError, record_id: str | None, row: dict[str, Any]) -> None:
        failure = Failure("refused", record_id, why.key, str(why), row=self.rows_read)
        self.refused += 1
        self.refused_by_key[why.key] += 1
        if len(self.refused_sample) < SAMPLE_SIZE:
            self.refused_sample.append(failure)
        if self._refused_file is not None:
            self._refused_file.write(failure_line(failure, "row", row))
