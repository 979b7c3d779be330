"""
When to poll an async action if nothing else is known: soon, then less and less often.

``queue_watch`` builds on it for several actions, ``service_times`` once some of them have been seen to finish.
"""

from __future__ import annotations

from collections.abc import Sequence

EARLIEST_POLL = 1.0
"""Seconds from submission to the first poll; the vendor's examples take 0.1 to 0.9 s for a few records."""

SHORTEST_PAUSE = 1.0
"""Shortest pause between two polls, in seconds, whatever the poll interval: each poll costs an API call."""

DEFAULT_POLL_INTERVAL = 60.0
"""Longest pause between two polls, in seconds."""

MAX_FAILED_POLLS = 10
"""Number of consecutive failed polls after which to give up."""


def action_to_poll(unfinished: Sequence[str]) -> str:
    """
    Return the id of the action to poll out of a set of unfinished ones: the one submitted last.

    Voucherify documents its queue as first-in-first-out, so while that action is unfinished polling the others gains
    nothing, and once it has finished they should have too.

    :param unfinished: ids in the order of submission.
    """
    return unfinished[-1]


def pause(elapsed: float, poll_interval: float) -> float:
    """
    Return the seconds until the next poll.

    The pause is as long as the time waited so far, so the pauses double (1, 2, 4 … s) up to ``poll_interval``. It
    depends on the clock alone: a trigger that is moved or restarted continues where it was.

    :param elapsed: seconds since the last action was submitted.
    :param poll_interval: longest pause in seconds.
    """
    return within(max(elapsed, EARLIEST_POLL), poll_interval)


def within(seconds: float, poll_interval: float) -> float:
    """Return a pause that is neither longer than ``poll_interval`` nor shorter than ``SHORTEST_PAUSE``."""
    return max(min(seconds, poll_interval), SHORTEST_PAUSE)
