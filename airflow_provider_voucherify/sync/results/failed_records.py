"""The failed records of a sync of which nobody knows the rows, on local disk: there may be many."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

import msgspec

from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import RowOutcome
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.text import json_safe_text, shortened


class FailedRecords:
    """A ``Listener`` that keeps every failure that has a reason or a name; a context manager."""

    def __enter__(self) -> Self:
        self._file: Any = TemporaryFile(prefix="voucherify-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, settled: Settled) -> None:
        """Keep a batch's failures."""
        self._file.write(msgspec.json.Encoder().encode_lines([_outcome(failure) for failure in settled.failures]))

    def outcomes(self) -> Iterator[RowOutcome]:
        """Give them in the order of the batches, again each time."""
        self._file.seek(0)
        yield from map(msgspec.json.Decoder(RowOutcome).decode, self._file)


def _outcome(failure: Failure) -> RowOutcome:
    texts = [None if text is None else json_safe_text(text) for text in (failure.id, failure.key)]
    details = (shortened(failure.message), shortened(failure.details), failure.async_action_id)
    return RowOutcome(failure.row, texts[0], "failed", texts[1], *details)
