"""The files of a report folder: reports, ``failures.jsonl`` and ``set_aside.jsonl``."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import IO, Any, Literal, Protocol

from airflow_provider_voucherify.sync.batches.bodies import records_of
from airflow_provider_voucherify.sync.rows.failure_lines import Attempts, EarlierFailures, failure_line
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import WRITTEN
from airflow_provider_voucherify.sync.types.settled import Settled

_REPORT_NAME = re.compile(r"report-\d{5,}(-\d+)?\.csv|(differences|preview)\.jsonl")


class FailuresFolder(Protocol):
    """A folder that keeps failures."""

    @property
    def uri(self) -> str:
        """Where it is."""

    def write(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file of the folder for writing; it replaces the old one once it is complete."""


class ReportFolder(FailuresFolder, Protocol):
    """A folder that keeps reports and failures."""

    def names(self) -> Iterable[str]:
        """Return the names of the files in it."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


class SentRecords(Protocol):
    """What was sent and what was refused, kept until the outcome is known."""

    def ids(self, number: int) -> Sequence[str]:
        """Return the ids of the records in the batch with a number (from 1)."""

    def body(self, number: int) -> bytes:
        """Return the body of the batch with a number."""

    def refused_lines(self) -> Iterable[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""

    def set_aside_lines(self) -> Iterable[bytes]:
        """Return the records that were not sent because they have failed too often, as lines of ``set_aside.jsonl``."""

    @property
    def failed_before(self) -> EarlierFailures:
        """What an earlier sync's ``failures.jsonl`` says about records that were sent again."""


def remove_reports(folder: ReportFolder, *, but: Collection[str] = ()) -> None:
    """Remove the reports of an earlier sync, which could be mistaken for this one's."""
    for name in list(folder.names()):
        if _REPORT_NAME.fullmatch(name) and name not in but:
            folder.remove(name)


def copy_into(folder: FailuresFolder, name: str, file: IO[bytes]) -> None:
    """Write a local file's whole content into a file of a folder."""
    file.seek(0)
    with folder.write(name) as copy:
        while piece := file.read(1024 * 1024):
            copy.write(piece)


class HiddenFailures:
    """Writes down that records failed, without ids and values: ``settled`` has none then."""

    def __init__(
        self, failures: IO[bytes], sent: SentRecords | None = None, set_aside: IO[bytes] | None = None
    ) -> None:
        self._failures = failures
        if sent is not None:
            failures.writelines(sent.refused_lines())
        if sent is not None and set_aside is not None:
            set_aside.writelines(sent.set_aside_lines())

    def add(self, settled: Settled) -> None:
        """Write a line for each failed record of a batch."""
        for failure in settled.failures:
            self._failures.write(failure_line(failure, "hidden", {}, at=time.time()))
        unnamed = settled.unnamed or Failure("failed", None, None, None)
        for _ in range(settled.outcome.failed - len(settled.failures)):
            self._failures.write(failure_line(unnamed, "hidden", {}, at=time.time()))


class FailureLines:
    """Records failures: those that may be sent again separately from those that have failed too often."""

    def __init__(
        self,
        failures: IO[bytes],
        set_aside: IO[bytes],
        sent: SentRecords | None,
        ledger: Ledger | None,
        max_attempts: int | None,
    ) -> None:
        self._failures = failures
        self._set_aside = set_aside
        self._before = sent.failed_before if sent is not None else None
        self._ledger = ledger
        self._max_attempts = max_attempts
        if sent is not None:
            failures.writelines(sent.refused_lines())
            set_aside.writelines(sent.set_aside_lines())

    def add(self, settled: Settled) -> None:
        """
        Write one batch's failed records.

        If the API counts more failures than it names, every record that is not known to have been written is included:
        all of them are safe to send again, whereas leaving out the wrong one is not.
        """
        outcome, endpoint, body = settled.outcome, settled.endpoint, settled.body
        if not outcome.failed:
            return
        unnamed = outcome.unnamed_reason
        reason = unnamed or Failure("failed", None, None, "Voucherify does not say which records failed")
        if endpoint is None or body is None:
            key = endpoint.key if endpoint is not None else "source_id"
            for record_id, failure in outcome.failures.items():
                self._line(failure, "id", {key: record_id})
            for _ in range(outcome.unnamed_failures if not outcome.failures else 0):
                self._line(reason, "id", {})
            return
        written = {answer for answer, verdict in outcome.verdicts.items() if verdict in WRITTEN}
        silent = sum(1 for answer in outcome.answers.values() if answer not in written) - len(outcome.failures)
        counts = not outcome.failed_as_a_whole and outcome.unnamed_failures >= silent
        for record_id, record in records_of(body(), endpoint):
            if record_id in outcome.failures:
                self._line(outcome.failures[record_id], "record", record)
            elif outcome.unnamed_failures and outcome.answers[record_id] not in written:
                self._line(replace(reason, id=record_id), "record", record, counts=counts)

    def _line(
        self, failure: Failure, form: Literal["record", "id"], content: Mapping[str, Any], *, counts: bool = True
    ) -> None:
        attempts = self._earlier(failure.id).again(time.time(), counts=counts)
        too_often = self._max_attempts is not None and attempts.number >= self._max_attempts
        file = self._set_aside if too_often else self._failures
        file.write(failure_line(failure, form, content, attempts))

    def _earlier(self, record_id: str | None) -> Attempts:
        """Return the record's earlier failures, from the file that it came from or else from the state."""
        known = [Attempts(0, 0.0)]
        if record_id is not None and self._before is not None:
            known.append(self._before.find(record_id))
        if record_id is not None and self._ledger is not None:
            known.append(self._ledger.failing.attempts(record_id))
        return max(known, key=lambda attempts: (attempts.number, len(attempts.history)))
