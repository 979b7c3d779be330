"""A summary as lines of text: for the log and for alerts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_provider_voucherify.sync.types.outcome import MAX_ATTEMPTS
from airflow_provider_voucherify.sync.types.reasons import SHOWN_IDS
from airflow_provider_voucherify.sync.types.text import counted, cut, on_one_line

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.results.summary import FailureReason, SyncSummary

MAX_LINES = 14
"""Lines of an alert, whatever happened."""

MAX_WARNINGS = 4
"""Of these, the ones for warnings, if there are as many reasons as fit too."""

MAX_CHARACTERS_OF_ID, MAX_CHARACTERS_OF_MESSAGE = 60, 200
"""What is shown of an id and of a message, either of which may be anything."""

CONTENT_KEYS = frozenset({"invalid_payload", "metadata_validation_failed"})
"""Keys of failures that are a record's own fault: it fails in the same way for as long as it is the same."""


def lines_of(summary: SyncSummary, most: int | None, *, link: bool) -> list[str]:
    """
    Return a summary as lines.

    What there is no room for is counted. None of the lines has a line break, whatever is in a row or a message.

    :param most: None for as many as there are.
    :param link: whether the last ones are the pages of the run and of the task's try.
    """
    warnings = [f"Warning: {on_one_line(line)}" for line in (summary.warning or "").split("\n") if line]
    reasons = [_reason_line(reason) for reason in _by_count(_unexpected(summary))]
    pages = {"Run": summary.page_url, "Log": summary.log_url} if link else {}
    end = [*filter(None, [read_back_line(summary)]), *what_now(summary)]
    end += [*(f"{name}: {url}" for name, url in pages.items() if url)]
    if most is not None:
        room = most - 1 - len(end)
        for_reasons = min(len(reasons), max(room - len(warnings), room - MAX_WARNINGS))
        warnings = _cut(warnings, room - for_reasons, "warnings, see the log")
        reasons = _cut(reasons, for_reasons, "reasons")
    return [_first_line(summary), *warnings, *reasons, *end]


def _cut(lines: Sequence[str], most: int, what: str) -> list[str]:
    if len(lines) <= most:
        return [*lines]
    return [*lines[: most - 1], f"… and {len(lines) - most + 1:,} more {what}"]


def _first_line(summary: SyncSummary) -> str:
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in summary.counts().items())
    rows = summary.rows_read if summary.rows_read is not None else summary.submitted
    if summary.dry_run:
        state = f"dry run, {counted(summary.requests, 'request')} not sent"
    elif summary.succeeded is None and summary.async_action_ids:
        queued = counted(summary.requests, "request queued, its", "requests queued, their")
        state = f"{queued} outcome was not waited for"
    else:
        state = "" if counts else "nothing to do"
    outcome = ", ".join(filter(None, (state, counts)))
    return f"Voucherify {summary.resource or 'update'}: {counted(rows or 0, 'row')} - {outcome}"


def _reason_line(reason: FailureReason) -> str:
    """Return a line, e.g. ``3 failed, invalid_payload: Invalid payload - price must be an integer: c1, c2, c3``."""
    what = f"- {reason.count:,} {reason.outcome}, {reason.key or 'no key'}"
    message = cut(reason.message or "no reason given", MAX_CHARACTERS_OF_MESSAGE)
    return on_one_line(": ".join([what, message, *([named] if (named := _ids(reason.ids, reason.count)) else [])]))


def what_now(summary: SyncSummary) -> Iterator[str]:
    """Say what is new, what is to be done, and where to read on."""
    failed = summary.unexpected
    if summary.expected_by_key:
        yield _expected_line(summary)
    if failed and summary.newly_failed is not None:
        ids = _ids(summary.newly_failed_ids, summary.newly_failed)
        yield f"New since the last sync: {summary.newly_failed:,}{f' ({on_one_line(ids)})' if ids else ''}"
    if failed or summary.not_reported:
        yield _to_do(summary)
    elif summary.failed_async_action_ids:
        whole = counted(len(summary.failed_async_action_ids), "async action")
        yield f"Nothing to do yet: {whole} failed as a whole; a retry or the next run sends the same records again"
    if summary.report_uri and failed:
        others = ", and those that have failed too often in set_aside.jsonl" if _set_aside(summary) else ""
        yield f"All of them: {on_one_line(summary.report_uri)}/failures.jsonl{others}"


def read_back_line(summary: SyncSummary) -> str | None:
    """Say how what was read back compares with the source or with what was sent; None if nothing was read back."""
    if summary.verified is None:
        return None
    if summary.is_drift_report:
        what, same = "At Voucherify", "as in the source"
        others = {
            "different": summary.differing,
            "missing": summary.missing,
            "that the source does not have": summary.not_in_source,
        }
    else:
        what, same = "Read back", "as they were sent"
        others = {"different": summary.differing, "missing": summary.missing}
    told = [f"{count:,} {kind}" for kind, count in others.items() if count]
    line = f"{what}: {', '.join([f'{summary.verified:,} {same}', *told])}"
    if summary.report_uri and told:
        line += f": {on_one_line(summary.report_uri)}/differences.jsonl"
    return line


def _set_aside(summary: SyncSummary) -> int:
    return summary.failures_by_key.get(MAX_ATTEMPTS, 0)


def _to_do(summary: SyncSummary) -> str:
    """Say what a person has to fix, and what the next run does by itself."""
    to_fix = sum(reason.count for reason in _unexpected(summary) if not is_sent_again(reason))
    others = summary.unexpected + (summary.not_reported or 0) - to_fix
    if not to_fix:
        return f"Nothing to do yet: the next run sends {others:,} again"
    rows = counted(to_fix, "row in the source, or it fails", "rows in the source, or they fail")
    return f"To do: fix {rows} again" + (f"; the next run sends {counted(others, 'other')} again" if others > 0 else "")


def _unexpected(summary: SyncSummary) -> list[FailureReason]:
    return [reason for reason in summary.reasons if reason.key not in summary.expected_by_key]


def _expected_line(summary: SyncSummary) -> str:
    """Return the line of what may fail, e.g. ``Expected: 300 not_found (v1, v2, v3, …)``."""
    counts = sorted(summary.expected_by_key.items(), key=lambda counted: -counted[1])
    ids = {key: [one for reason in summary.reasons if reason.key == key for one in reason.ids] for key, _ in counts}
    listed = [
        f"{count:,} {key}" + (f" ({_ids(ids[key][:SHOWN_IDS], count)})" if ids[key] else "") for key, count in counts
    ]
    return on_one_line(f"Expected: {', '.join(listed[:SHOWN_IDS])}{', …' if len(listed) > SHOWN_IDS else ''}")


def is_sent_again(reason: FailureReason) -> bool:
    """
    Say whether the next sync may come to another end with the same records.

    Refused rows and records whose content Voucherify does not take fail again for as long as they are the same.
    """
    return reason.outcome != "refused" and reason.key not in CONTENT_KEYS


def _ids(ids: Sequence[str], count: int) -> str:
    shown = [cut(one, MAX_CHARACTERS_OF_ID) for one in ids]
    return ", ".join(shown + (["…"] if shown and count > len(shown) else []))


def _by_count(reasons: Iterable[FailureReason]) -> list[FailureReason]:
    return sorted(reasons, key=lambda reason: -reason.count)
