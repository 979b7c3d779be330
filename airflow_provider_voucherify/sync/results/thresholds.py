"""Which limits a summary exceeds; a light module, since operators and sensor import it when a DAG is parsed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from airflow_provider_voucherify.models.spelling import did_you_mean
from airflow_provider_voucherify.policies import Limits
from airflow_provider_voucherify.sync.types.text import counted

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

UNUSUAL_SHARE = 0.5
"""Share of superseded rows from which on a summary warns, if no limit is set."""


def exceeded_limits(summary: SyncSummary, limits: Limits, parameter: str) -> list[str]:
    """
    Return a text for each limit that a summary exceeds, with the numbers.

    :param limits: with the defaults of the parameter.
    :param parameter: ``fail_if`` or ``warn_if``, for the text.
    """
    expected = sum(expected_failures(summary, limits.expected_keys).values())
    failed = max(0, (summary.failed or 0) + summary.refused - expected)
    rows = summary.rows_read if summary.rows_read is not None else summary.submitted
    compared = summary.not_as_sent + (summary.verified or 0)
    tried = (compared if summary.is_drift_report else summary.submitted or 0) + summary.refused - expected
    kind = f"{'compared' if summary.is_drift_report else 'sent'} or refused"
    besides = f", besides {counted(expected, 'that was', 'that were')} expected to" if expected else ""
    created = summary.created_at_least if summary.created is None else summary.created
    least = "at least " if summary.created is None else ""
    read = counted(rows or failed, "row")
    read_back = counted(compared, "record that was read back", "records that were read back")
    as_it, as_they = "it was sent", "they were sent"
    if summary.is_drift_report:
        as_it, as_they = "the source has it", "the source has them"
    counts = {
        "failed": (
            failed,
            counted(failed, f"of {read} failed or was refused", f"of {read} failed or were refused") + besides,
        ),
        "failed_ratio": (
            failed / tried if tried else 0,
            f"{failed / (tried or 1):.2%} of "
            + counted(tried, f"row that was {kind} failed or was", f"rows that were {kind} failed or were")
            + f" refused{besides}",
        ),
        "created": (created, f"{least}{counted(created, 'record was', 'records were')} created"),
        "not_reported": (
            summary.not_reported or 0,
            f"Voucherify's answers do not mention {counted(summary.not_reported or 0, 'record')}",
        ),
        "differing": (
            summary.not_as_sent,
            counted(summary.not_as_sent, f"of {read_back} is not as {as_it}", f"of {read_back} are not as {as_they}")
            + f" ({summary.missing or 0:,} missing)",
        ),
        "superseded": (summary.superseded, _superseded(summary.superseded, rows or 0)),
    }
    exceeded = [
        f"{what}, and {name} of {parameter} is {limit:{'.2%' if name == 'failed_ratio' else ','}}"
        for name, (count, what) in counts.items()
        if (limit := getattr(limits, name)) is not None and count > limit
    ]
    if summary.failed_async_action_ids and not summary.failed and (limits.failed, limits.failed_ratio) != (None, None):
        exceeded.insert(0, f"{counted(len(summary.failed_async_action_ids), 'async action')} failed as a whole")
    return exceeded


def expected_failures(summary: SyncSummary, keys: Collection[str]) -> dict[str, int]:
    """Return how many rows have failed or were refused by reasons that are expected, by their keys."""
    return {key: count for key, count in summary.failures_by_key.items() if key in keys}


def expected_keys(fail_if: Limits, warn_if: Limits) -> set[str]:
    """Return the keys that are expected wherever there is a limit for failed rows."""
    counting = [limits for limits in (fail_if, warn_if) if limits.counts_failed]
    if counting:
        return set.intersection(*(set(limits.expected_keys) for limits in counting))
    return {*fail_if.expected_keys, *warn_if.expected_keys}


def mistyped_keys(summary: SyncSummary, limits: Limits, parameter: str) -> Iterator[str]:
    """Say which expected keys no failure has although one has a key that is written almost like it."""
    others = summary.failures_by_key.keys() - set(limits.expected_keys)
    for key in limits.expected_keys:
        if key not in summary.failures_by_key and (hint := did_you_mean(key, others, 0.75)):
            yield f"expected_keys of {parameter} has {key!r}, which no failure has{hint}"


def unchecked_limit(summary: SyncSummary, limits: Limits, parameter: str) -> str | None:
    """Return a text that names a limit which could not be checked, or None."""
    if limits.created is None or summary.created is not None or summary.succeeded is None:
        return None
    known = f" beside {summary.created_at_least:,}" if summary.created_at_least else ""
    return f"Voucherify does not say how many records were created{known}, so created of {parameter} was not checked"


def limit_warnings(summary: SyncSummary, fail_if: Limits, warn_if: Limits) -> list[str]:
    """Return a text for each limit that is exceeded, then for each that could not be checked."""
    both = ((fail_if, "fail_if"), (warn_if, "warn_if"))
    exceeded = [text for limits, parameter in both for text in exceeded_limits(summary, limits, parameter)]
    unchecked = [text for limits, parameter in both if (text := unchecked_limit(summary, limits, parameter))]
    mistyped = [text for limits, parameter in both for text in mistyped_keys(summary, limits, parameter)]
    return exceeded + unchecked + mistyped + ([] if warn_if.superseded is not None else _unusually_superseded(summary))


def _unusually_superseded(summary: SyncSummary) -> list[str]:
    """Return a warning if so many rows share their ids that the id column may be the wrong one."""
    rows = summary.rows_read or 0
    if not rows or summary.superseded < rows * UNUSUAL_SHARE:
        return []
    return [f"{_superseded(summary.superseded, rows)} (if that is intended, set superseded of warn_if)"]


def _superseded(count: int, rows: int) -> str:
    read = counted(rows, "row")
    return counted(count, f"of {read} was", f"of {read} were") + " superseded by a later row with the same id"
