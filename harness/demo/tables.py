"""The two tables at the end of the demo."""

from __future__ import annotations

from collections import Counter
from typing import Any

Summary = dict[str, Any]


def outcome_table(sent: Summary, arrived: Summary) -> str:
    """
    Say what became of every row.

    :param sent: what the operator returned.
    :param arrived: what the sensor returned.
    """
    counts = {
        "created": arrived["created"],
        "updated": arrived["updated"],
        "unchanged": sent["unchanged"],
        "found and not updated": arrived["not_updated"],
        "superseded by a later row": sent["superseded"],
        "refused before sending": sent["refused"],
        "failed at Voucherify": arrived["failed"],
        "not reported by Voucherify": arrived["not_reported"],
    }
    lines = [f"{what:<30}{count:>7,}" for what, count in counts.items()]
    total = f"{'rows in the warehouse':<30}{sent['rows_read']:>7,}"
    return "\n".join([*lines, "-" * 37, total])


def reasons_table(sent: Summary, arrived: Summary) -> str:
    """Say why rows were refused or failed, a line for each reason."""
    failures = [*sent["failures"], *arrived["failures"]]
    reasons = Counter((failure["outcome"], failure["details"] or failure["message"]) for failure in failures)
    return "\n".join(f"{count:>3} {outcome:<8}{why}" for (outcome, why), count in reasons.items())
