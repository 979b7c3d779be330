"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime

_YEAR_5000 = 95_617_584_000.0


def epoch(moment: str | None) -> float | None:
    """Read an ISO-8601 time (UTC if it has no offset) as Unix epoch seconds; None if the text is not a time."""
    try:
        read = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    seconds = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 <= seconds < _YEAR_5000 else None


def iso(moment: float | datetime) -> str:
    """
    Write a time as the API does, e.g. ``2022-09-05T11:40:17.098Z``.

    :param moment: Unix epoch seconds, or a time; one without a time zone is taken as UTC.
    """
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
