"""
The parsers, each as a function of bytes that raises nothing but what would be a bug.

An error that a parser documents is caught here, and so is what it promises of its values checked.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import msgspec

from airflow_provider_voucherify.client import auth, calls
from airflow_provider_voucherify.client.rate_limits import CallLimit, RateLimit
from airflow_provider_voucherify.client.retry import CallOutcome, RetryPolicy, seconds_until_retry
from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS
from airflow_provider_voucherify.models.errors import (
    VoucherifyConfigurationError,
    VoucherifyReportError,
    VoucherifyUnexpectedAnswerError,
)
from airflow_provider_voucherify.models.times import epoch
from airflow_provider_voucherify.sync.batches.csv_file import CsvFile
from airflow_provider_voucherify.sync.results.report import read_report
from airflow_provider_voucherify.sync.results.settlement import settle
from airflow_provider_voucherify.sync.rows.chunks import BadLine, BlankRows, Chunk
from airflow_provider_voucherify.sync.rows.failure_lines import Attempts
from airflow_provider_voucherify.sync.rows.sources import from_file
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.state.state_file import read_state

NOW = 1_790_000_000.0
HEADERS = ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-retry", "retry-after", "date")


def report(content: bytes) -> None:
    """Read a report; it has no more rows than lines, or than objects."""
    try:
        rows = list(read_report(io.BytesIO(content), "source_id"))
    except VoucherifyReportError:
        return
    assert len(rows) <= len(content)


def source(content: bytes, name: str) -> None:
    """Read a source file; each row has a value for each column."""
    try:
        for part in from_file(io.BytesIO(content), name):
            assert isinstance(part, Chunk | BadLine | BlankRows)
            if isinstance(part, Chunk):
                assert all(len(row) == len(part.columns) for row in part.rows)
                for told in part.failures:
                    assert Attempts.read(told).again(NOW).number > 0
    except VoucherifyConfigurationError:
        return


def jsonl(content: bytes) -> None:
    """Read JSON lines."""
    source(content, "rows.jsonl")


def failures_jsonl(content: bytes) -> None:
    """Read JSON lines that say of themselves that they are failures."""
    source(content + b'\n{"source_id": "c1", "_failure": ' + content.replace(b"\n", b" ") + b"}\n", "failures.jsonl")


def csv(content: bytes) -> None:
    """Read CSV."""
    source(content, "rows.csv")


def csv_import(content: bytes) -> None:
    """Read a CSV file for an import."""
    endpoint = next(iter(CSV_IMPORT_ENDPOINTS.values()))
    file = CsvFile(endpoint, 1_000_000)
    try:
        file.read(io.BytesIO(content))
    except VoucherifyConfigurationError:
        return
    finally:
        file.close()


def answers(content: bytes) -> None:
    """Read any JSON as each of the answers, and settle what is an action."""
    try:
        decoded = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    for call in (
        calls.get_async_action("aa_1"),
        calls.async_action_status("aa_1"),
        calls.list_async_actions(),
        calls.get_metadata_schema("customers"),
        calls.list_metadata_schemas(),
        auth.oauth_token("api"),
    ):
        try:
            call.parse(call.decode(content))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, VoucherifyUnexpectedAnswerError):
            continue
    if isinstance(decoded, dict):
        action = calls.get_async_action("aa_1").parse({"id": "aa_1", "status": "DONE", "result": decoded})
        for ids in (None, list("abcdefghij")):
            outcome = settle(action, 10, upserts=True, ids=ids, key="source_id")
            assert outcome.records == 10
            assert min(outcome.succeeded, outcome.not_updated, outcome.failed, outcome.not_reported) >= 0
        epoch(action.created_at)


def rate_limit_headers(content: bytes) -> None:
    """Read the headers; a wait is a number of seconds that somebody can wait."""
    texts = content.decode("latin-1").split("\n")
    headers = dict(zip(HEADERS, texts, strict=False))
    limit = RateLimit.from_headers(headers)
    for status in (429, 503):
        outcome = CallOutcome(status, rate_limit=limit)
        wait = seconds_until_retry(RetryPolicy(), outcome, safe=True, failures=1, waited=0.0, now=NOW)
        assert wait is None or (math.isfinite(wait) and 0 <= wait <= RetryPolicy().max_rate_limit_wait)
    for text in texts:
        moment = epoch(text)
        assert moment is None or moment >= 0
        try:
            assert CallLimit.parse(text).calls > 0
        except ValueError:
            continue


def state_file(content: bytes) -> None:
    """Read a state file; what is wrong with it is said by the errors that are documented."""
    with Ledger("run", "settings") as ledger:
        try:
            read_state(ledger, "customers", "sync", io.BytesIO(content))
        except (ValueError, VoucherifyConfigurationError):
            return


PARSERS: dict[str, Callable[[bytes], Any]] = {
    parser.__name__: parser
    for parser in (
        report,
        jsonl,
        failures_jsonl,
        csv,
        csv_import,
        answers,
        rate_limit_headers,
        state_file,
    )
}
