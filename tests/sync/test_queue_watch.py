"""What is polled, and when, on behalf of everybody who waits: as few polls as possible, and nobody is forgotten."""

from __future__ import annotations

import random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_queue import EPOCH, Fault, SimulatedQueue, one_after_another, shuffled

from airflow_provider_voucherify.models.errors import (
    VoucherifyAuthenticationError,
    VoucherifyBadRequestError,
    VoucherifyError,
    VoucherifyNoAnswerError,
    VoucherifyPermissionError,
    VoucherifyRateLimitError,
    VoucherifyServerError,
)
from airflow_provider_voucherify.sync.waiting.poll import Poll
from airflow_provider_voucherify.sync.waiting.queue_watch import QueueWatch
from airflow_provider_voucherify.sync.waiting.waits import Wait, Waits

NEVER = float("inf")


@pytest.fixture(autouse=True)
def _true_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what makes the other tests quick: here the clock is turned by hand."""
    from airflow_provider_voucherify.sync.waiting import pauses

    monkeypatch.setattr(pauses, "SHORTEST_PAUSE", 1.0)


# A queue in the documented order


@pytest.mark.parametrize(
    ("actions", "seconds_each", "most"), [(1, 20, 7), (27, 20, 45), (27, 120, 107), (300, 20, 422), (1_000, 10, 1_300)]
)
def test_a_trigger_for_each_action_costs_little_more_than_one_get_each(
    actions: int, seconds_each: float, most: int
) -> None:
    queue = SimulatedQueue(one_after_another([seconds_each] * actions), seconds_per_poll=0.1)
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["finished"] * actions
    assert len(queue.polls) <= most
    assert max(queue.late(wait) for wait in waits) <= 60


@pytest.mark.parametrize("clocks_differ", [-3_600.0, 0.0, 300.0])
def test_clocks_that_differ_change_nothing(clocks_differ: float) -> None:
    queue = SimulatedQueue(one_after_another([20.0] * 27), clocks_differ=clocks_differ)
    waits = queue.wait_for_each()

    queue.run()

    assert len(queue.polls) <= 45
    assert max(queue.late(wait) for wait in waits[3:]) <= 4


@pytest.mark.parametrize("by", [-500.0, 500.0])
def test_a_clock_that_is_set_meanwhile_does_little_harm(by: float) -> None:
    queue = SimulatedQueue(one_after_another([20.0] * 60))
    waits = queue.wait_for_each()

    queue.run(until=400)
    queue.clock_set = by
    queue.run()

    assert len(queue.polls) <= 90
    assert max(queue.late(wait) for wait in waits) <= 120


def test_a_worker_whose_clock_is_ahead_does_not_delay_the_polls() -> None:
    queue = SimulatedQueue([10.0])
    queue.clock_set = -300.0
    wait = queue.wait(0)

    queue.run()

    assert queue.late(wait) <= 10


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
def test_actions_of_uneven_length_cost_a_few_polls_more(spread: float) -> None:
    chance = random.Random(7)
    seconds = [20 * chance.uniform(1 - spread, 1 + spread) for _ in range(300)]
    queue = SimulatedQueue(one_after_another(seconds), seconds_per_poll=0.1)
    waits = queue.wait_for_each()

    queue.run()

    assert len(queue.polls) <= 1.3 * 300
    assert max(queue.late(wait) for wait in waits) <= 60


def test_answers_without_times_cost_more_polls_but_not_many() -> None:
    queue = SimulatedQueue(one_after_another([20.0] * 300), without=["created_at", "updated_at"])
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 300
    assert len(queue.polls) <= 1.6 * 300
    assert max(queue.late(wait) for wait in waits) <= 120


def test_short_actions_are_found_together_in_the_list() -> None:
    queue = SimulatedQueue(one_after_another([0.1] * 300), seconds_per_poll=0.05)
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 300
    assert len(queue.polls) <= 150


@pytest.mark.parametrize("actions", [1, 50, 1_000])
def test_waiting_for_the_head_costs_one_poll_a_pause_whatever_the_number_of_triggers(actions: int) -> None:
    queue = SimulatedQueue(one_after_another([100_000.0] * actions))
    queue.wait_for_each()

    queue.run(until=3_600)

    polls = [at for at, _ in queue.polls]
    assert len(polls) <= 3_600 / 60 * 1.4 + 10
    assert max(later - earlier for earlier, later in zip(polls[-20:], polls[-19:], strict=False)) == pytest.approx(60)


def test_the_smallest_poll_interval_of_those_waiting_counts() -> None:
    queue = SimulatedQueue([NEVER, NEVER])
    queue.wait(0, poll_interval=60.0)
    queue.wait(1, poll_interval=15.0, at=600.0, end_time=1_200.0)

    queue.run(until=3_000)

    polls = [at for at, _ in queue.polls]
    assert len([at for at in polls if 100 < at <= 600]) <= 10
    assert 36 <= len([at for at in polls if 600 < at <= 1_200]) <= 42
    assert len([at for at in polls if 1_260 < at <= 3_000]) <= 30


def test_actions_that_finished_while_nobody_polled_are_found_with_a_few_polls() -> None:
    queue = SimulatedQueue(one_after_another([10.0] * 1_000))
    waits = queue.wait_for_each(at=5_003.0)

    queue.run(until=5_003.5)

    assert queue.status_of(waits) == ["finished"] * 500 + [None] * 500
    assert len(queue.polls) <= 20


def test_an_action_that_is_waited_for_twice_is_polled_once() -> None:
    queue = SimulatedQueue([0.5])
    waits = [queue.wait(0), queue.wait(0, at=0.2)]

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 2
    assert len(queue.polls) == 1


def test_no_poll_is_spent_before_it_can_be_of_use() -> None:
    queue = SimulatedQueue([0.5])
    wait = queue.wait(0, not_before=EPOCH + 8)

    queue.run()

    assert queue.polls == [(8.0, "aa_0")]
    assert queue.status_of([wait]) == ["finished"]


def test_waiting_for_no_action_has_ended_before_it_began() -> None:
    watch, wait = QueueWatch(), Wait([], EPOCH, EPOCH)

    watch.add(wait, EPOCH)

    assert wait.end is not None
    assert wait.end.status == "finished"
    assert watch.next_poll(EPOCH) is None


# One wait for many actions: the operator's own path


@pytest.mark.parametrize(("actions", "seconds_each", "most"), [(1, 0.5, 2), (27, 20, 45), (1_000, 10, 1_300)])
def test_an_operator_s_actions_cost_little_more_than_one_get_each(actions: int, seconds_each: float, most: int) -> None:
    """Ten seconds on the worker, then in the triggerer; in the end each result is fetched."""
    ends, numbers = one_after_another([seconds_each] * actions), range(actions)
    worker = SimulatedQueue(ends)
    worker.wait(*numbers)
    worker.run(until=10.0)
    triggerer = SimulatedQueue(ends)
    wait = triggerer.wait(*numbers, at=10.5, not_before=EPOCH + 18.0)
    if not worker.ended_at:
        triggerer.run()
        assert triggerer.status_of([wait]) == ["finished"]
        assert triggerer.late(wait) <= 60

    assert len(worker.polls) + len(triggerer.polls) + actions <= most


def test_a_wait_has_not_finished_while_one_of_its_actions_has_not() -> None:
    queue = SimulatedQueue([5.0, 100.0, 200.0, 20.0])
    wait = queue.wait(0, 1, 2, 3)

    queue.run(until=190.0)
    assert queue.status_of([wait]) == [None]
    queue.run()

    assert queue.status_of([wait]) == ["finished"]
    assert queue.ended_at[wait] >= 200.0


def test_actions_that_the_list_does_not_show_are_taken_to_be_in_order() -> None:
    """Somebody else's thousands of actions lie between: polling each result will tell."""
    queue = SimulatedQueue([1.0] * 3_000)
    wait = queue.wait(0, 2_999)

    queue.run()

    assert queue.status_of([wait]) == ["finished"]
    assert len(queue.polls) <= 10


# Other orders


@pytest.mark.parametrize("ends", [range(100, 0, -1), shuffled(range(1, 101))], ids=["reversed", "random"])
@pytest.mark.parametrize("has_more", [True, False])
def test_another_order_costs_no_more_polls_than_actions(
    ends: list[float], has_more: bool, caplog: pytest.LogCaptureFixture
) -> None:
    queue = SimulatedQueue(ends, has_more=has_more)
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 100
    assert len(queue.polls) <= (110 if has_more else 220)
    assert max(queue.late(wait) for wait in waits) <= 20
    assert len([action for _, action in queue.polls if action is not None]) <= 12, "then the list alone is read"
    assert caplog.text.count("contrary to the documented order") == 1


@pytest.mark.parametrize("ends", [range(1_000, 0, -1), shuffled(range(1, 1_001))], ids=["reversed", "random"])
def test_one_wait_in_another_order_costs_a_few_polls(ends: list[float]) -> None:
    queue = SimulatedQueue(ends)
    wait = queue.wait(*range(1_000))

    queue.run()

    assert queue.status_of([wait]) == ["finished"]
    assert len(queue.polls) <= 200
    assert queue.late(wait) <= 60


def test_a_stuck_action_does_not_keep_the_others_waiting() -> None:
    queue = SimulatedQueue([NEVER, *one_after_another([20.0] * 50)])
    waits = queue.wait_for_each(end_time=10_000.0)

    queue.run()

    assert queue.status_of(waits) == ["timeout"] + ["finished"] * 50
    assert max(queue.late(wait) for wait in waits[1:]) <= 130
    assert len(queue.polls) <= 60 + 10_000 / 60


def test_an_action_that_the_list_does_not_show_is_polled_by_itself() -> None:
    queue = SimulatedQueue([300.0, *shuffled(range(1, 31))], unlisted=[0])
    waits = queue.wait_for_each(end_time=2_000.0)

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 31
    assert queue.late(waits[0]) <= 60


def test_an_action_that_was_seen_unfinished_is_waited_for_though_the_list_shows_it_no_more() -> None:
    queue = SimulatedQueue([600.0, 500.0, 20.0])
    wait = queue.wait(0, 1, 2)
    queue.run(until=100.0)

    queue.unlisted = [0]
    queue.run()

    assert queue.status_of([wait]) == ["finished"]
    assert queue.ended_at[wait] >= 600.0


def test_bodies_in_flight_at_the_same_time_may_be_queued_in_either_order(caplog: pytest.LogCaptureFixture) -> None:
    queue = SimulatedQueue([10.0, 40.0, 30.0], [0.0, 0.02, 0.01])
    wait = queue.wait(0, 1, 2)

    queue.run()

    assert queue.ended_at[wait] >= 40.0
    assert "contrary" not in caplog.text


def refused(poll: Poll, now: float) -> VoucherifyError | None:
    return VoucherifyPermissionError("GET /v1/async-actions", 403) if poll.async_action_id is None else None


def test_without_the_list_each_is_polled_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    queue = SimulatedQueue(one_after_another([20.0] * 27), fault=refused)
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 27
    assert len([action for _, action in queue.polls if action is None]) == 1
    assert caplog.text.count("polled one by one") == 1


def test_without_the_list_another_order_is_noticed_too() -> None:
    queue = SimulatedQueue([NEVER, *shuffled(range(1, 51))], fault=refused)
    waits = queue.wait_for_each(end_time=5_000.0)

    queue.run()

    assert queue.status_of(waits) == ["timeout"] + ["finished"] * 50
    assert max(queue.late(wait) for wait in waits[1:]) <= 600


def test_without_the_list_a_wait_ends_with_its_last_action() -> None:
    queue = SimulatedQueue([1.0, NEVER, 3.0], fault=refused)
    wait = queue.wait(0, 1, 2)

    queue.run()

    assert queue.status_of([wait]) == ["finished"]


# Ends that come too early


def test_each_wait_ends_at_its_own_time() -> None:
    queue = SimulatedQueue([NEVER] * 5)
    waits = [queue.wait(number, end_time=100.0 * (5 - number)) for number in range(5)]

    queue.run()

    assert queue.status_of(waits) == ["timeout"] * 5
    assert [queue.ended_at[wait] for wait in waits] == pytest.approx([500, 400, 300, 200, 100])
    assert waits[4].end is not None
    assert waits[4].end.message == "async action aa_4 was not finished in time"


def test_a_thousand_waits_that_end_together_cost_a_few_polls() -> None:
    queue = SimulatedQueue([NEVER] * 1_000)
    waits = queue.wait_for_each(end_time=20.0)

    queue.run()

    assert queue.status_of(waits) == ["timeout"] * 1_000
    assert max(queue.ended_at.values()) == pytest.approx(20.0)
    assert len(queue.polls) <= 30


def test_the_next_poll_is_found_without_going_through_all_waits() -> None:
    """It is asked for after each wait that comes or goes: going through all would cost the square of their number."""
    watch, waits = QueueWatch(), [Wait([f"aa_{number}"], EPOCH + number, EPOCH + 1e6 + number) for number in range(500)]
    for wait in waits:
        watch.add(wait, EPOCH + 1_000)

    with patch.object(Waits, "__iter__", side_effect=AssertionError("goes through all waits")):
        polls = [watch.next_poll(EPOCH)]
        for wait in waits[:-1]:
            watch.remove(wait)
            polls.append(watch.next_poll(EPOCH))

    assert [poll.at for poll in polls if poll is not None] == [EPOCH + 1 + number for number in range(500)]


def test_an_action_that_has_finished_counts_as_finished_however_late_it_is() -> None:
    queue = SimulatedQueue([50.0, NEVER, 60.0, NEVER, NEVER, 70.0])
    waits = queue.wait_for_each(end_time=100.0, at=3_600.0)

    queue.run()

    assert queue.status_of(waits) == ["finished", "timeout", "finished", "timeout", "timeout", "finished"]


def test_one_that_leaves_does_not_disturb_the_others() -> None:
    queue = SimulatedQueue([500.0, 60.0])
    first, second = queue.wait_for_each()
    queue.run(until=10.0)

    queue.watch.remove(first)
    queue.run()

    assert queue.status_of([first, second]) == [None, "finished"]
    assert {action for at, action in queue.polls if at > 10.0} == {"aa_1"}
    assert queue.watch.next_poll(EPOCH + 70.0) is None


# Polls that fail


def test_an_unknown_action_ends_only_the_waits_for_it() -> None:
    queue = SimulatedQueue([30.0, 60.0])
    known = queue.wait_for_each()
    lost = Wait(["aa_lost"], EPOCH, EPOCH + 1e6)
    queue.watch.add(lost, EPOCH)

    queue.run()

    assert queue.status_of([*known, lost]) == ["finished", "finished", "unreachable"]
    assert lost.end is not None
    assert "GET /v1/async-actions/aa_lost was answered with 404" in str(lost.end.message)
    assert not queue.watch.gave_up


@pytest.mark.parametrize("error", [VoucherifyAuthenticationError("GET /v1/async-actions/aa_0", 401)])
def test_an_error_that_nothing_passes_ends_all_waits_at_once(error: VoucherifyError) -> None:
    queue = SimulatedQueue([NEVER] * 20, fault=lambda poll, now: error)
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["unreachable"] * 20
    assert {wait.end.message for wait in waits if wait.end is not None} == {str(error)}
    assert len(queue.polls) == 1
    assert queue.watch.gave_up


def test_each_wait_bears_as_many_failures_as_it_says() -> None:
    queue = SimulatedQueue([NEVER] * 3, fault=lambda poll, now: VoucherifyNoAnswerError("no answer"))
    waits = [queue.wait(number, max_failures=number + 2) for number in range(3)]

    queue.run()

    assert queue.status_of(waits) == ["unreachable"] * 3
    polls = [at for at, _ in queue.polls]
    assert [queue.ended_at[wait] for wait in waits] == polls[1:4]
    assert len(polls) == 4


def test_a_good_poll_makes_up_for_failures() -> None:
    queue = SimulatedQueue(
        [1_000.0], fault=lambda poll, now: VoucherifyServerError("GET", 503) if int(now) % 3 else None
    )
    wait = queue.wait(0, max_failures=4, poll_interval=1.0)

    queue.run()

    assert queue.status_of([wait]) == ["finished"]


def test_an_action_that_only_the_list_shows_does_not_end_the_others() -> None:
    queue = SimulatedQueue(
        [NEVER, *one_after_another([20.0] * 30)],
        fault=lambda poll, now: VoucherifyServerError("GET", 500) if poll.async_action_id == "aa_0" else None,
    )
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["unreachable"] + ["finished"] * 30


def test_an_action_that_nothing_shows_ends_its_own_wait_and_no_other() -> None:
    broken = VoucherifyServerError("GET", 500)
    queue = SimulatedQueue(
        [NEVER, *one_after_another([20.0] * 60)],
        fault=lambda poll, now: broken if poll.async_action_id == "aa_0" else refused(poll, now),
    )
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["unreachable"] + ["finished"] * 60
    assert queue.ended_at[waits[0]] < queue.ended_at[waits[-1]]


def test_a_list_that_fails_again_and_again_is_given_up() -> None:
    queue = SimulatedQueue(
        shuffled(one_after_another([20.0] * 30)),
        fault=lambda poll, now: VoucherifyServerError("GET", 503) if poll.async_action_id is None else None,
    )
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 30
    assert len([action for _, action in queue.polls if action is None]) == 3


def test_a_list_that_fails_once_it_is_needed_leaves_single_polls() -> None:
    queue = SimulatedQueue(
        shuffled(one_after_another([20.0] * 30)),
        fault=lambda poll, now: (
            VoucherifyServerError("GET", 503) if poll.async_action_id is None and now > 200 else None
        ),
    )
    waits = queue.wait_for_each()

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 30


def test_failures_do_not_keep_a_wait_beyond_its_end() -> None:
    queue = SimulatedQueue([NEVER] * 8, fault=lambda poll, now: VoucherifyNoAnswerError("no answer"))
    waits = queue.wait_for_each(end_time=3.5, max_failures=100)

    queue.run()

    assert queue.status_of(waits) == ["timeout"] * 8
    assert max(queue.ended_at.values()) == pytest.approx(3.5)


# Rate limits


def used_up_until(second: float, **told: Any) -> Fault:
    """A limit that is used up from the start, and known to be, so that no call leaves."""
    told = {"limit_type": "api_calls", "retry_at": EPOCH + second, "sent": False} | told
    return lambda poll, now: VoucherifyRateLimitError("GET", 429, **told) if now < second else None


@pytest.mark.parametrize("actions", [1, 20])
def test_a_limit_that_says_when_it_ends_is_no_failure_and_costs_one_poll(actions: int) -> None:
    queue = SimulatedQueue(one_after_another([20.0] * actions), fault=used_up_until(3_000.0))
    waits = queue.wait_for_each(max_failures=1)

    queue.run()

    assert queue.status_of(waits) == ["finished"] * actions
    assert len([at for at, _ in queue.polls if at <= 3_000]) == 1
    assert max(queue.ended_at.values()) <= 3_010
    assert queue.watch.rate_limit is None


def test_a_limit_that_is_hit_again_and_again_does_not_end_a_wait_nor_the_reading_of_the_list() -> None:
    ends = 60_000.0
    queue = SimulatedQueue(
        shuffled(one_after_another([1_000.0] * 60)),
        fault=lambda poll, now: used_up_until(now // 3_600 * 3_600 + 3_500)(poll, now),
    )
    waits = queue.wait_for_each(end_time=2 * ends, max_failures=2)

    queue.run()

    assert queue.status_of(waits) == ["finished"] * 60
    assert max(queue.late(wait) for wait in waits) <= 7_400
    assert any(action is None for at, action in queue.polls if at > ends / 2), "the list is still read"


def test_a_wait_that_ends_before_its_limit_says_what_is_not_known() -> None:
    queue = SimulatedQueue([20.0, 30.0], fault=used_up_until(3_000.0))
    waits = queue.wait_for_each(end_time=600.0)

    queue.run()

    assert queue.status_of(waits) == ["timeout"] * 2
    assert max(queue.ended_at.values()) == pytest.approx(600.0)
    assert waits[0].end is not None
    assert "async action aa_0 could not be polled in time: GET was not" in str(waits[0].end.message)


@pytest.mark.parametrize("retry_at", [None, EPOCH - 100.0, EPOCH + 1e9])
def test_a_limit_without_a_time_that_can_be_is_a_failure_as_any_other(retry_at: float | None) -> None:
    queue = SimulatedQueue([NEVER], fault=used_up_until(1e8, retry_at=retry_at))
    wait = queue.wait(0, max_failures=3)

    queue.run()

    assert queue.status_of([wait]) == ["unreachable"]
    assert len(queue.polls) == 3


# Whatever happens

SECONDS = st.floats(0.0, 300.0)


@st.composite
def surroundings(draw: st.DrawFn) -> tuple[SimulatedQueue, list[Wait]]:
    ends = draw(st.lists(st.one_of(SECONDS, st.just(NEVER)), min_size=1, max_size=12))
    errors = draw(
        st.lists(
            st.sampled_from(
                [
                    None,
                    None,
                    None,
                    VoucherifyNoAnswerError("no answer"),
                    VoucherifyServerError("GET", 503),
                    VoucherifyBadRequestError("GET", 400),
                ]
            ),
            max_size=30,
        )
    )
    queue = SimulatedQueue(
        ends,
        draw(st.lists(SECONDS, min_size=len(ends), max_size=len(ends))),
        clocks_differ=draw(st.floats(-100, 100)),
        seconds_per_poll=draw(st.sampled_from([0.0, 0.1, 30.0])),
        without=draw(st.lists(st.sampled_from(["created_at", "updated_at", "status", "progress"]), max_size=2)),
        has_more=draw(st.booleans()),
        fault=lambda poll, now: errors.pop() if errors else None,
    )
    numbers = st.lists(st.integers(0, len(ends) - 1), min_size=1, max_size=5, unique=True)
    waits = [
        queue.wait(
            *chosen,
            at=draw(SECONDS),
            end_time=draw(SECONDS) * 3,
            poll_interval=draw(st.floats(0.01, 100.0)),
            max_failures=draw(st.integers(1, 10)),
        )
        for chosen in draw(st.lists(numbers, min_size=1, max_size=8))
    ]
    return queue, waits


@settings(max_examples=150)
@given(surroundings())
def test_every_wait_ends_for_a_reason_and_in_time(drawn: tuple[SimulatedQueue, list[Wait]]) -> None:
    queue, waits = drawn

    queue.run(until=2_000.0)

    assert None not in queue.status_of(waits)
    assert queue.watch.next_poll(EPOCH + queue.now) is None
    assert len(queue.polls) <= 6_000
    for wait in waits:
        assert wait.end is not None
        if wait.end.status == "finished":
            assert queue.late(wait) >= 0 or len(wait.async_action_ids) > 1
