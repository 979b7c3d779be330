"""
Many callers against a limit, in simulated time: whatever the order of events, the limit is not run into, nor is waited
for longer than it lasts.
"""

from __future__ import annotations

import heapq
import math
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.client.budgets import FIRST_CALLS
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.client.protocol import Protocol
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Answer, NoAnswer, Send, Sleep
from airflow_provider_voucherify.models.endpoints import UPDATE_ENDPOINTS
from airflow_provider_voucherify.models.errors import VoucherifyError, VoucherifyRateLimitError

START = 1_800_000_000.0
GET = calls.list_async_actions()
POST = calls.bulk(UPDATE_ENDPOINTS["customers"], Body.of(b"[]"))
BODIES = {"GET": b'{"async_actions": [], "has_more": false}', "POST": b'{"async_action_id": "aa_1"}'}


@dataclass
class Limit:
    """A limit of a server, counted in fixed periods that begin at any time."""

    name: str
    calls: int
    seconds: float
    phase: float = 0.0
    period: int = -1
    used: int = 0

    def roll(self, now: float) -> None:
        period = math.floor((now - START + self.phase) / self.seconds)
        self.period, self.used = period, self.used if period == self.period else 0

    @property
    def left(self) -> int:
        return self.calls - self.used

    def end(self) -> float:
        return START - self.phase + (self.period + 1) * self.seconds


@dataclass
class Server:
    """
    What answers.

    :param limits: by method.
    :param retry_header: what ``X-Rate-Limit-Retry`` tells while calls are left: ``next_call`` or ``period_end``.
    :param tells_date: whether answers have a ``Date``.
    :param tells_type: whether answers of 429 have a ``X-Rate-Limit-Type`` and ``Retry-After``.
    :param tells_anything: whether answers have rate limit headers at all.
    :param clock_error: seconds by which the callers' clocks are ahead of the server's.
    """

    limits: dict[str, list[Limit]]
    retry_header: str = "next_call"
    tells_date: bool = True
    tells_type: bool = True
    tells_anything: bool = True
    clock_error: float = 0.0
    refused: list[float] = field(default_factory=list)
    taken: int = 0

    def answer(self, method: str, now: float) -> Answer:
        limits = self.limits[method]
        for limit in limits:
            limit.roll(now)
        is_refused = any(limit.left == 0 for limit in limits)
        for limit in limits:
            limit.used += not is_refused
        self.taken += not is_refused
        shown = next((limit for limit in limits if limit.left == 0), limits[0])
        told = shown.end() if shown.left == 0 or self.retry_header == "period_end" else now
        headers = {
            "x-rate-limit-limit": str(shown.calls),
            "x-rate-limit-remaining": str(shown.left),
            "x-rate-limit-retry": str(math.ceil(told - self.clock_error)),
        }
        if self.tells_date:
            headers["date"] = formatdate(now - self.clock_error, usegmt=True)
        if not self.tells_anything:
            headers = {}
        if not is_refused:
            return Answer(200, headers, BODIES[method])
        self.refused.append(now)
        if self.tells_type:
            headers |= {"x-rate-limit-type": shown.name, "retry-after": str(math.ceil(told - now))}
        return Answer(429, headers, b"{}")


def run(
    server: Server,
    callers: Sequence[Sequence[Call[Any]]],
    latencies: Iterator[float],
    retry: RetryPolicy | None = None,
    lost: Iterator[bool] | None = None,
    **extra: Any,
) -> float:
    """
    Let each caller make its calls one after the other; return the seconds until all are done.

    No call may fail, but where answers are lost.
    """
    connection = ConnectionSettings.build(application_id=str(uuid.uuid4()), secret_key="sk", extra=extra)
    now, order = START, count()
    protocol = Protocol(connection, retry or RetryPolicy(), clock=lambda: now)
    events: list[tuple[float, int, Any]] = []

    def at(time: float, what: Any) -> None:
        heapq.heappush(events, (time, next(order), what))

    def all_calls(own: Sequence[Call[Any]]) -> Iterator[Any]:
        for call in own:
            steps, outcome = protocol.carry_out(call), None
            try:
                while True:
                    outcome = yield steps.send(outcome)
            except StopIteration:
                pass
            except VoucherifyError:
                if lost is None:
                    raise

    def go_on(caller: Any, outcome: Any) -> None:
        try:
            step = caller.send(outcome)
        except StopIteration:
            return
        if isinstance(step, Sleep):
            assert step.seconds > 0
            at(now + step.seconds, lambda: go_on(caller, None))
        else:
            assert isinstance(step, Send)
            at(now + next(latencies), lambda: arrive(caller, step.method))

    def arrive(caller: Any, method: str) -> None:
        answer = server.answer(method, now)
        is_lost = lost is not None and next(lost)
        at(now + next(latencies), lambda: go_on(caller, NoAnswer(True, "lost") if is_lost else answer))

    for own in callers:
        caller = all_calls(own)
        at(START, lambda caller=caller: go_on(caller, None))
    for _ in range(100_000):
        if not events:
            return now - START
        now, _, what = heapq.heappop(events)
        what()
    raise AssertionError("it spins")


LATENCIES = st.lists(st.floats(0.001, 2), min_size=1, max_size=50)
RETRY_HEADERS = st.sampled_from(["next_call", "period_end"])
CALLERS = st.lists(st.integers(1, 8), min_size=1, max_size=6)
LIMITS = {"calls": st.integers(6, 12), "seconds": st.floats(5, 60), "phase": st.floats(0, 60)}


def one_period(server: Server, latencies: Sequence[float]) -> RetryPolicy:
    """Return a policy that has the patience for one period of each limit, as the default has for an hour."""
    limits = {limit.name: limit.seconds for limits in server.limits.values() for limit in limits}
    return RetryPolicy(max_rate_limit_wait=sum(limits.values()) + 2 * len(limits) + 4 * max(latencies))


def cycle(values: Sequence[Any]) -> Iterator[Any]:
    while True:
        yield from values


@given(
    limit=st.integers(1, 8),
    seconds=st.floats(5, 60),
    phase=st.floats(0, 60),
    callers=st.lists(st.integers(1, 8), min_size=1, max_size=20),
    latencies=LATENCIES,
    retry_header=RETRY_HEADERS,
)
def test_nobody_is_refused_once_the_limit_is_known(
    limit: int, seconds: float, phase: float, callers: list[int], latencies: list[float], retry_header: str
) -> None:
    server = Server({"GET": [Limit("api_calls", limit, seconds, phase)]}, retry_header)

    lasted = run(server, [[GET] * number for number in callers], cycle(latencies), one_period(server, latencies))

    assert server.taken == sum(callers)
    assert len(server.refused) <= max(0, min(FIRST_CALLS, len(callers)) - limit), (
        "only those that were sent before the first answer"
    )
    assert lasted <= longest(server, sum(callers), latencies)


def longest(server: Server, calls: int, latencies: Sequence[float]) -> float:
    """Return how long calls may last that are held back no longer than the limits do."""
    limits = {limit.name: limit for limits in server.limits.values() for limit in limits}.values()
    periods = sum(math.ceil(calls / limit.calls) + 1 for limit in limits)
    return periods * (max(limit.seconds for limit in limits) + 2 + 4 * max(latencies)) + 2 * calls * max(latencies)


@pytest.mark.parametrize("bulk_calls_count_as", ["bulk", "bulk and ordinary", "ordinary"])
@given(
    ordinary=st.builds(Limit, st.just("api_calls"), **LIMITS),
    bulk=st.builds(Limit, st.just("bulk_api_calls"), **LIMITS),
    callers=st.lists(st.lists(st.sampled_from([GET, POST]), min_size=1, max_size=12), min_size=1, max_size=6),
    latencies=LATENCIES,
    retry_header=RETRY_HEADERS,
    tells_type=st.booleans(),
)
def test_whatever_bulk_calls_count_as_both_limits_are_kept(
    bulk_calls_count_as: str,
    ordinary: Limit,
    bulk: Limit,
    callers: list[list[Call[Any]]],
    latencies: list[float],
    retry_header: str,
    tells_type: bool,
) -> None:
    ordinary, bulk = replace(ordinary), replace(bulk)
    of_posts = {"bulk": [bulk], "bulk and ordinary": [bulk, ordinary], "ordinary": [ordinary]}
    server = Server({"GET": [ordinary], "POST": of_posts[bulk_calls_count_as]}, retry_header, tells_type=tells_type)

    lasted = run(server, callers, cycle(latencies), one_period(server, latencies))

    assert server.taken == sum(map(len, callers))
    most = 0 if bulk_calls_count_as == "bulk" else len(callers)
    in_a_period = Counter((at - START + ordinary.phase) // ordinary.seconds for at in server.refused)
    assert max(in_a_period.values(), default=0) <= most, "only those sent before an ordinary call was answered"
    assert lasted <= longest(server, server.taken, latencies)


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_one_bulk_call_an_hour_is_enough_for_everybody(in_flight: int) -> None:
    """The vendor's example of a sandbox project, with the default policy."""
    bulk, ordinary = Limit("bulk_api_calls", 1, 3_600), Limit("api_calls", 100, 3_600)
    server = Server({"GET": [ordinary], "POST": [bulk, ordinary]})

    lasted = run(server, [[POST] * (8 // in_flight)] * in_flight, cycle([0.5]))

    assert server.taken == 8
    assert lasted <= 7 * 3_600 + 60


def test_what_a_caller_allows_counts_in_all_whoever_gets_through_meanwhile() -> None:
    now = START
    connection = ConnectionSettings.build(application_id=str(uuid.uuid4()), secret_key="sk")
    protocol = Protocol(connection, RetryPolicy(max_rate_limit_wait=70), clock=lambda: now)
    used_up = {"x-rate-limit-remaining": "0", "retry-after": "60"}
    patient, bounded, other = protocol.carry_out(GET), protocol.carry_out(GET, 100), protocol.carry_out(GET)

    for waiting in (patient, bounded):
        assert isinstance(next(waiting), Send)
    for waiting in (patient, bounded):
        assert waiting.send(Answer(429, used_up, b"{}")) == Sleep(60, for_rate_limit=True)
    now += 62
    assert isinstance(next(other), Send)
    with pytest.raises(StopIteration):
        other.send(Answer(200, used_up, BODIES["GET"]))

    assert isinstance(patient.send(None), Sleep)
    with pytest.raises(VoucherifyRateLimitError, match=r"longer than it may wait \(40 s\)"):
        bounded.send(None)


@given(
    clock_error=st.sampled_from([-86_400.0, -1_800.0, -30.0, 30.0, 1_800.0, 86_400.0]),
    callers=CALLERS,
    latencies=LATENCIES,
    retry_header=RETRY_HEADERS,
)
def test_a_wrong_clock_is_put_right_by_the_date_of_the_answers(
    clock_error: float, callers: list[int], latencies: list[float], retry_header: str
) -> None:
    server = Server({"GET": [Limit("api_calls", 6, 20.0)]}, retry_header, clock_error=clock_error)

    lasted = run(server, [[GET] * number for number in callers], cycle(latencies))

    assert server.taken == sum(callers)
    assert server.refused == []
    assert lasted <= longest(server, server.taken, latencies)


@pytest.mark.parametrize("clock_error", [-86_400.0, -30.0, 30.0, 86_400.0])
@given(callers=CALLERS, latencies=LATENCIES, lost=st.lists(st.booleans(), max_size=20))
def test_a_wrong_clock_without_a_date_and_lost_answers_neither_spin_nor_hang(
    clock_error: float, callers: list[int], latencies: list[float], lost: list[bool]
) -> None:
    server = Server({"GET": [Limit("api_calls", 6, 20.0)]}, tells_date=False, clock_error=clock_error)
    policy = RetryPolicy(attempts=50, max_rate_limit_wait=600)

    lasted = run(server, [[GET] * number for number in callers], cycle(latencies), policy, cycle([*lost, False]))

    assert len(server.refused) <= sum(callers) + len(callers) * lasted, "about one in a second for each caller"
    assert lasted <= 800 * max(callers) * (len(lost) + 2)


@given(
    limit=st.integers(1, 8),
    callers=st.lists(st.lists(st.sampled_from([GET, POST]), min_size=1, max_size=12), min_size=1, max_size=6),
    latencies=LATENCIES,
    phase=st.floats(0, 1),
)
def test_the_connections_own_limits_hold_from_the_first_call_on_in_any_period(
    limit: int, callers: list[list[Call[Any]]], latencies: list[float], phase: float
) -> None:
    ordinary, bulk = Limit("api_calls", 2 * limit, 1, phase), Limit("bulk_api_calls", limit, 1, phase / 2)
    server = Server({"GET": [ordinary], "POST": [bulk, ordinary]}, tells_anything=False)

    run(server, callers, cycle(latencies), rate_limit=f"{2 * limit}/second", bulk_rate_limit=f"{limit}/second")

    assert server.taken == sum(map(len, callers))
    assert server.refused == []


@given(callers=CALLERS, latencies=LATENCIES)
def test_without_any_knowledge_nobody_waits_for_more_than_the_first_answer(
    callers: list[int], latencies: list[float]
) -> None:
    server = Server({"GET": [Limit("api_calls", 100, 60)]}, tells_anything=False)

    lasted = run(server, [[GET] * number for number in callers], cycle(latencies))

    assert lasted <= 2 * (max(callers) + 2) * max(latencies) + 0.5
