"""
When to look at an async action while nothing else is known: soon, then less and less often.

``queue_watch`` builds on it if several actions are waited for, ``service_times`` if some of them were seen to
finish.
"""

from __future__ import annotations

from collections.abc import Sequence

EARLIEST_LOOK = 1.0
"""Seconds from submission to the first look; the vendor's examples take 0.1 to 0.9 s for a few records."""

SHORTEST_PAUSE = 1.0
"""Shortest pause between two looks, in seconds, whatever a poll interval says: each look costs an API call."""

DEFAULT_POLL_INTERVAL = 60.0
"""Longest pause between two looks, in seconds."""

MAX_FAILED_LOOKS = 10
"""Failed looks in a row after which waiting is given up."""


def action_to_look_at(unfinished: Sequence[str]) -> str:
    """
    Return the id of the action that tells most about a set of unfinished ones: the one submitted last.

    Voucherify documents its queue as first-in-first-out, so while that one is unfinished nothing is gained by looking
    at the others, and when it has finished so should they have.

    :param unfinished: ids in the order of submission.
    """
    return unfinished[-1]


def pause(elapsed: float, poll_interval: float) -> float:
    """
    Return the seconds until the next look.

    The pause is as long as the time waited already, so the looks double in distance (1, 2, 4 … s) up to
    ``poll_interval``. It depends on the clock alone: a trigger that is moved or restarted goes on where it was.

    :param elapsed: seconds since the last action was submitted.
    :param poll_interval: longest pause in seconds.
    """
    return within(max(elapsed, EARLIEST_LOOK), poll_interval)


def within(seconds: float, poll_interval: float) -> float:
    """Return a pause that is neither longer than ``poll_interval`` nor shorter than ``SHORTEST_PAUSE``."""
    return max(min(seconds, poll_interval), SHORTEST_PAUSE)
