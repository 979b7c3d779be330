"""When an action is polled: soon, then less and less often, so that a long sync costs few requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.sync.waiting.pauses import (
    DEFAULT_POLL_INTERVAL,
    EARLIEST_POLL,
    action_to_poll,
    pause,
)

INTERVALS = st.floats(0.01, 600)


def polls_until(duration: float, poll_interval: float = DEFAULT_POLL_INTERVAL, first: float = 0.0) -> list[float]:
    """Return the times of the polls of an action that ends ``duration`` seconds after its submission."""
    elapsed = first
    polls: list[float] = []
    while not polls or polls[-1] < duration:
        elapsed += pause(elapsed, poll_interval)
        polls.append(elapsed)
    return polls


@pytest.mark.parametrize(
    ("actions", "seconds_each", "most"), [(1, 0.5, 2), (1, 20, 7), (27, 20, 45), (1_000, 10, 1_300)]
)
def test_a_queue_of_actions_costs_little_more_than_one_get_each(actions: int, seconds_each: float, most: int) -> None:
    """The queue is first-in-first-out: the last action is polled until it ends, then each result is fetched."""
    polls = len(polls_until(actions * seconds_each))
    results = actions - 1

    assert polls + results <= most


@given(st.floats(0, 100_000), INTERVALS)
def test_a_pause_is_never_zero_and_never_longer_than_the_interval(elapsed: float, poll_interval: float) -> None:
    assert 0 < pause(elapsed, poll_interval) <= poll_interval
    assert pause(elapsed, poll_interval) <= max(elapsed, EARLIEST_POLL)


@given(st.floats(0.01, 10_000), INTERVALS)
def test_the_end_is_noticed_in_time(duration: float, poll_interval: float) -> None:
    late = polls_until(duration, max(poll_interval, duration / 1_000))[-1] - duration

    assert late <= max(poll_interval, duration / 1_000)
    assert late <= max(duration, EARLIEST_POLL)


@given(st.floats(0, 5_000), st.floats(10, 5_000))
def test_a_trigger_that_is_restarted_goes_on_where_it_was(restarted_at: float, duration: float) -> None:
    assert len(polls_until(duration, first=restarted_at)) <= len(polls_until(duration)) + 1


def test_a_clock_that_was_set_back_does_not_hasten_the_polls() -> None:
    assert pause(-3_600, 60) == EARLIEST_POLL


def test_the_action_submitted_last_tells_most() -> None:
    assert action_to_poll(["aa_1", "aa_2", "aa_3"]) == "aa_3"
