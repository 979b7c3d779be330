"""How rows become items, decided once for each list of columns in a source."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.models.spelling import did_you_mean
from airflow_provider_voucherify.sync.batches.destination import Destination
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.sync.rows.encoding import RowsEncoder, rows_encoder
from airflow_provider_voucherify.sync.rows.mapping import (
    MappingRules,
    absent_columns,
    check_columns,
    compile_mapping,
    sends_null,
    unnamed_columns,
)
from airflow_provider_voucherify.sync.rows.record_builder import RecordBuilder, RefusedRowError
from airflow_provider_voucherify.sync.state.ledger import Ledger

_MAX_SHAPES = 1_000


@dataclass(frozen=True)
class Shape:
    """
    How the rows of one list of columns become items.

    :param columns: how many values a row has.
    """

    builder: RecordBuilder
    columns: int
    ids_only: bool

    @cached_property
    def encoder(self) -> RowsEncoder | None:
        """Encodes many rows at once; made when there are many."""
        return rows_encoder(self.builder, self.columns, ids_only=self.ids_only)

    def fields_key(self, made_of: Any) -> Hashable:
        """Return a key of one of ``EncodedRows.made_of``: items share it if they have the same fields, null or not."""
        return made_of if self.encoder is None or type(made_of) is bytes else self.encoder.fields_key(made_of)


class Shapes:
    """
    The shapes of a source's rows.

    :param destination: where the items go.
    :param rules: how columns become fields.
    :param warn: called with each warning.
    :param ledger: gets the fields that the source has columns for.
    :ivar paths: where values of columns go in a record, such as ``("metadata", "segment")``; in the order of items.
    """

    def __init__(
        self, destination: Destination, rules: MappingRules, warn: Callable[[str], None], ledger: Ledger | None
    ) -> None:
        self._destination = destination
        # Ids have no nulls: the policy is about the one metadata object.
        self._rules = replace(rules, null_policy="omit") if destination.sends_ids else rules
        self._warn = warn
        self._ledger = ledger
        self._shapes: dict[tuple[tuple[str, ...], bool], Shape] = {}
        self._left_out: set[str] = set()
        self._padded: set[str] = set()
        self._named = {name.lower() for _, names in absent_columns((), self._rules) for name in names}
        self._present: set[str] = set()
        self.paths: dict[tuple[str, ...], None] = {}

    def of(self, chunk: Chunk) -> Shape | None:
        """
        Return how a chunk's rows become items; None if rows without fixed columns have no key column.

        :raises VoucherifyConfigurationError: the columns do not fit, and all rows of the source have them.
        :raises RefusedRowError: the columns do not fit, and others may.
        """
        if not chunk.fixed_columns and not self._has_key(chunk):
            return None
        name = (chunk.columns, chunk.are_records)
        if name not in self._shapes:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            self._shapes[name] = self._make(chunk)
        return self._shapes[name]

    def warn_of_absent(self) -> None:
        """Warn of columns that the rules name and no row had, where each row has columns of its own."""
        if not self._present:
            return
        for parameter, names in absent_columns(self._present, self._rules):
            shown = ", ".join(f"{name!r}{did_you_mean(name, self._present)}" for name in names)
            self._warn(f"{parameter} names columns that no row has: {shown}")

    def _make(self, chunk: Chunk) -> Shape:
        rules = self._rules_for(chunk)
        try:
            builder = compile_mapping(self._destination.fields_of, chunk.columns, rules)
        except VoucherifyConfigurationError as error:
            if chunk.fixed_columns:
                message = f"{error} ({chunk.hint})" if chunk.hint else str(error)
                raise VoucherifyConfigurationError(f"{chunk.file}: {message}" if chunk.file else message) from None
            raise RefusedRowError("unmappable", str(error)) from None
        self._warn_of_left_out(unnamed_columns(chunk.columns, rules))
        if rules.mapping is None:
            self._warn_of_padded(chunk.columns[to.column] for to in builder.targets)
        self.paths.update((tuple(to.path), None) for to in builder.targets)
        if self._ledger is not None:
            named = ((".".join(to.path), chunk.columns[to.column]) for to in builder.targets)
            self._ledger.fields.note_targets(
                (path, column, sends_null(rules.null_policy, column)) for path, column in named
            )
        return Shape(builder, len(chunk.columns), self._destination.sends_ids)

    def _rules_for(self, chunk: Chunk) -> MappingRules:
        """Return the rules for a chunk: rows without fixed columns may lack any column that the rules name."""
        if chunk.are_records:
            rules = MappingRules(null_policy="send", schema=self._rules.schema)
        elif chunk.fixed_columns:
            rules = self._rules
            check_columns(chunk.columns, rules)
        else:
            rules = _of_present_columns(self._rules, chunk.columns)
            few = len(self._present) < _MAX_SHAPES
            self._present.update(name for name in chunk.columns if few or name.lower() in self._named)
        return replace(rules, metadata_columns=()) if self._destination.sends_ids else rules

    def _has_key(self, chunk: Chunk) -> bool:
        key = self._destination.endpoint.key
        if chunk.are_records:
            return key in chunk.columns
        if self._rules.mapping is None:
            return any(name.lower() == key for name in chunk.columns if name not in self._rules.exclude_columns)
        return any(target == key and name in chunk.columns for name, target in self._rules.mapping.items())

    def _warn_of_left_out(self, columns: Sequence[str]) -> None:
        if new := [name for name in columns if name not in self._left_out]:
            self._left_out.update(new)
            self._warn(
                f"columns without a name of their own are not sent: {', '.join(map(repr, new))}; exclude_columns "
                "leaves them out without this warning; mapping sends them"
            )

    def _warn_of_padded(self, columns: Iterable[str]) -> None:
        if new := [name for name in columns if name != name.strip() and name not in self._padded]:
            self._padded.update(new)
            self._warn(
                f"columns whose names begin or end with a blank are members of metadata by these names: "
                f"{', '.join(map(repr, new))}; csv_dialect={{'skipinitialspace': True}} reads a CSV file that has "
                "blanks after its separators, and mapping gives other names"
            )


def _of_present_columns(rules: MappingRules, columns: Sequence[str]) -> MappingRules:
    mapping = {name: target for name, target in (rules.mapping or {}).items() if name in columns}
    metadata = [name for name in rules.metadata_columns or () if name in columns]
    return replace(
        rules,
        mapping=None if rules.mapping is None else mapping,
        metadata_columns=None if rules.metadata_columns is None else metadata,
    )
