"""Rows and records that are not sent: counted by their reason, sampled, and kept as lines of failure files."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any

from airflow_provider_voucherify.sync.rows.failure_lines import Attempts, Form, failure_line
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.types.failure import SAMPLE_SIZE, Failure
from airflow_provider_voucherify.sync.types.hiding import Hiding
from airflow_provider_voucherify.sync.types.reasons import Reasons
from airflow_provider_voucherify.sync.types.text import json_safe_text

MAX_HINT = 60
"""Maximum length of the hint to a row without an id."""


class RefusedRows:
    """
    The refused rows of a source.

    :param rules: say which columns may be shown.
    :param keep_lines: whether to keep rows for ``lines`` and ``set_aside_lines``.
    :param hiding: leaves ids and values out of all that is told of them; None for no such wish.
    """

    def __init__(self, rules: MappingRules, *, keep_lines: bool, hiding: Hiding | None = None) -> None:
        self._hiding = hiding
        self.by_key: Counter[str] = Counter()
        self.reasons = Reasons()
        self.sample: list[Failure] = []
        self._rules = rules
        self._read_at = time.time()
        self._rows_file: IO[bytes] | None = tempfile.TemporaryFile() if keep_lines else None  # noqa: SIM115
        self._set_aside_file: IO[bytes] | None = tempfile.TemporaryFile() if keep_lines else None  # noqa: SIM115

    @property
    def number(self) -> int:
        """How many rows and records are refused."""
        return self.by_key.total()

    def add_row(self, failure: Failure, row: Mapping[str, Any]) -> None:
        """Refuse a row that cannot become a record."""
        failure, form, content = self._shown(failure, "row", row)
        self._count(failure)
        if self._rows_file is not None:
            self._rows_file.write(failure_line(failure, form, content, at=self._read_at))

    def add_record(self, failure: Failure, record: Mapping[str, Any]) -> None:
        """Refuse a record that Voucherify has, or does not have, contrary to what is allowed."""
        failure, form, content = self._shown(failure, "record", record)
        self._count(failure)
        if self._rows_file is not None:
            self._rows_file.write(failure_line(failure, form, content, at=self._read_at))

    def set_aside(self, failure: Failure, record: Mapping[str, Any], attempts: Attempts) -> None:
        """Refuse a record that has failed too often."""
        failure, form, content = self._shown(failure, "record", record)
        self._count(failure)
        if self._set_aside_file is not None:
            known = attempts if form != "hidden" else Attempts(attempts.number, attempts.at)
            self._set_aside_file.write(failure_line(failure, form, content, known))

    def hint(self, row: Mapping[str, Any]) -> str | None:
        """Return a column that a row without an id can be found by, e.g. ``name 'Ann'``; None if none is needed."""
        if len(self.sample) == SAMPLE_SIZE:
            return None
        rules = self._rules
        for name, value in row.items():
            is_sent = name not in rules.exclude_columns and (rules.mapping is None or name in rules.mapping)
            if is_sent and isinstance(value, str | int) and (text := json_safe_text(value)).strip():
                return f"{name} {text if isinstance(value, int) else repr(value):.{MAX_HINT}}"
        return None

    def lines(self) -> Iterator[bytes]:
        """Yield the refused rows as lines of ``failures.jsonl``."""
        return _lines(self._rows_file)

    def set_aside_lines(self) -> Iterator[bytes]:
        """Yield the records that have failed too often as lines of ``set_aside.jsonl``."""
        return _lines(self._set_aside_file)

    def close(self) -> None:
        """Free the disk space."""
        for file in (self._rows_file, self._set_aside_file):
            if file is not None:
                file.close()

    def _shown(
        self, failure: Failure, form: Form, content: Mapping[str, Any]
    ) -> tuple[Failure, Form, Mapping[str, Any]]:
        return (failure, form, content) if self._hiding is None else (self._hiding.failure(failure), "hidden", {})

    def _count(self, failure: Failure) -> None:
        self.by_key[str(failure.key)] += 1
        self.reasons.add(failure)
        if len(self.sample) < SAMPLE_SIZE:
            self.sample.append(failure)


def _lines(file: IO[bytes] | None) -> Iterator[bytes]:
    if file is not None:
        file.seek(0)
        yield from file
