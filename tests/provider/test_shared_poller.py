"""Many triggers of one connection in one event loop: one client, one poller, and nobody disturbs anybody."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from connections import APP_ID, SECRET_KEY, connect

from airflow_provider_voucherify.client.http import AsyncVoucherifyClient
from airflow_provider_voucherify.compat import BaseHook
from airflow_provider_voucherify.hooks import voucherify as hooks
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import Action, Delay, LocalVoucherify, Status
from airflow_provider_voucherify.triggers import async_action
from airflow_provider_voucherify.triggers.async_action import VoucherifyAsyncActionTrigger
from airflow_provider_voucherify.triggers.shared_poller import shared_poller


def submit(times: int) -> list[str]:
    with VoucherifyHook() as hook:
        return [hook.update_customers_in_bulk([{"source_id": f"c{i}"}]) for i in range(times)]


def trigger(
    ids: str | Sequence[str], conn_id: str = "voucherify_default", **kwargs: Any
) -> VoucherifyAsyncActionTrigger:
    defaults = {"submitted_at": time.time(), "end_time": time.time() + 30, "poll_interval": 0.02}
    return VoucherifyAsyncActionTrigger(conn_id, [ids] if isinstance(ids, str) else ids, **{**defaults, **kwargs})


async def event(of: VoucherifyAsyncActionTrigger) -> dict[str, Any]:
    [fired] = [fired async for fired in of.run()]
    payload: dict[str, Any] = fired.payload
    return payload


async def statuses(triggers: Sequence[VoucherifyAsyncActionTrigger]) -> list[str]:
    return [fired["status"] for fired in await asyncio.gather(*map(event, triggers))]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run something in an event loop of its own, and see that it leaves no task behind."""

    async def alone() -> Any:
        result = await main
        if left := asyncio.all_tasks() - {asyncio.current_task()}:  # the task that opened it leaves soon
            await asyncio.wait(left, timeout=1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(alone())


def gets(voucherify: LocalVoucherify) -> list[str]:
    return [request.path for request in voucherify.received if request.method == "GET"]


def in_order_of(voucherify: LocalVoucherify, order: Sequence[int], seconds_each: float) -> None:
    """Let actions end in another order than that of submission, one after another from now on."""
    start, ranks = time.time() + seconds_each, {number: rank for rank, number in enumerate(order)}
    numbers: dict[str, int] = {}

    def show(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        number = numbers.setdefault(action.id, list(voucherify.actions).index(action.id))
        if time.time() < start + ranks[number] * seconds_each:
            return {name: wire[name] for name in wire if name != "result"} | {"status": "IN_PROGRESS", "progress": 50}
        return wire

    voucherify.script_action(show)


def test_triggers_of_one_connection_share_a_poller(voucherify: LocalVoucherify) -> None:
    async def pollers() -> tuple[bool, bool]:
        async with await shared_poller("voucherify_default") as one, await shared_poller("voucherify_default") as two:
            same = one is two
        await asyncio.sleep(0)
        async with await shared_poller("voucherify_default") as three:
            return same, three is not one

    assert run(pollers()) == (True, True)


def test_each_is_told_of_its_own_action(voucherify: LocalVoucherify) -> None:
    assert run(statuses([trigger(action_id) for action_id in submit(20)])) == ["finished"] * 20


def test_those_that_wait_for_a_connection_are_let_in_some_at_a_time(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that end together leave some at a time: hundreds in one turn would block the event loop."""
    released = asyncio.Event()

    async def from_a_backend(conn_id: str) -> Any:
        await released.wait()
        return await sync_to_async(BaseHook.get_connection)(conn_id)

    monkeypatch.setattr(hooks, "get_async_connection", from_a_backend)
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with await shared_poller("voucherify_default"):
            inside += 1
            await asyncio.sleep(1)

    async def most_in_a_turn() -> int:
        waiting = [asyncio.create_task(enter()) for _ in range(200)]
        await asyncio.sleep(0.1)
        released.set()
        most = before = 0
        while inside < len(waiting):
            await asyncio.sleep(0)
            most, before = max(most, inside - before), inside
        await asyncio.wait(waiting)
        return most

    assert run(most_in_a_turn()) <= 20


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[AsyncVoucherifyClient]:
    """Return the clients that have been closed, of which each takes a moment."""
    clients: list[AsyncVoucherifyClient] = []
    aclose = AsyncVoucherifyClient.aclose

    async def close_and_tell(client: AsyncVoucherifyClient) -> None:
        await asyncio.sleep(0.05)
        await aclose(client)
        clients.append(client)

    monkeypatch.setattr(AsyncVoucherifyClient, "aclose", close_and_tell)
    return clients


def test_a_connection_that_nobody_waits_for_any_more_is_closed(
    voucherify: LocalVoucherify, closed: list[AsyncVoucherifyClient]
) -> None:
    async def give_up() -> None:
        waiting = [asyncio.create_task(event(trigger("aa_0"))) for _ in range(3)]
        await asyncio.sleep(0)
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})

    run(give_up())
    assert len(closed) == 1


def test_waiting_triggers_do_not_multiply_the_polls(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(times=50, stuck="IN_PROGRESS")
    end_time = time.time() + 2

    waiting = [trigger(action_id, end_time=end_time, poll_interval=0.1) for action_id in submit(50)]

    assert run(statuses(waiting)) == ["timeout"] * 50
    assert len(gets(voucherify)) <= 60


def test_actions_one_after_another_cost_about_one_get_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalVoucherify(app_id="app-0c5547cc5e17", secret_key="secret-f7e4-8d21-do-not-print") as voucherify:
        connect(monkeypatch, voucherify)
        voucherify.next_actions(times=20, seconds=0.1)

        assert run(statuses([trigger(action_id, poll_interval=1.0) for action_id in submit(20)])) == ["finished"] * 20

        assert len(gets(voucherify)) <= 50


@pytest.mark.parametrize("list_answer", [None, Status(403), Status(400)], ids=["list", "forbidden", "bad request"])
def test_actions_that_end_in_reverse_are_found(voucherify: LocalVoucherify, list_answer: Status | None) -> None:
    if list_answer is not None:
        voucherify.misbehave("list", list_answer, times=None)
    ids = submit(20)
    in_order_of(voucherify, range(19, -1, -1), 0.02)

    assert run(statuses([trigger(action_id) for action_id in ids])) == ["finished"] * 20


def test_each_ends_at_its_own_time(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(times=2, stuck="ENQUEUED")
    ids = submit(3)
    waiting = [trigger(ids[0], end_time=time.time() + 30), trigger(ids[1], end_time=time.time() + 0.2), trigger(ids[2])]

    async def first_stays() -> tuple[list[str], bool]:
        head, *others = [asyncio.create_task(event(one)) for one in waiting]
        ended = [fired["status"] for fired in await asyncio.gather(*others)]
        still_waits = not head.done()
        head.cancel()
        await asyncio.wait([head])
        return ended, still_waits

    assert run(first_stays()) == (["timeout", "finished"], True)


def test_one_that_is_cancelled_leaves_the_others_waiting(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(stuck="IN_PROGRESS")
    voucherify.next_actions(seconds=0.3)
    ids = submit(2)

    async def cancel_the_first() -> tuple[str, list[str]]:
        first, second = [asyncio.create_task(event(trigger(action_id))) for action_id in ids]
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.wait([first])
        before = len(gets(voucherify))
        return (await second)["status"], gets(voucherify)[before + 1 :]

    status, polls = run(cancel_the_first())

    assert status == "finished"
    assert set(polls) == {f"/v1/async-actions/{ids[1]}"}


def test_a_trigger_that_is_cancelled_again_and_again_closes_its_connection(
    voucherify: LocalVoucherify, closed: list[AsyncVoucherifyClient]
) -> None:
    """Airflow's triggerer cancels a trigger that is not needed any more once a second, until it has ended."""
    [action_id] = submit(1)
    voucherify.misbehave("poll", Delay(60), times=None)

    async def cancel_until_it_ends() -> None:
        waiting = asyncio.create_task(event(trigger(action_id)))
        await asyncio.sleep(0.2)
        while not waiting.done():
            waiting.cancel()
            await asyncio.sleep(0)

    run(cancel_until_it_ends())
    assert len(closed) == 1


def test_a_poll_that_hangs_keeps_nobody_from_leaving(voucherify: LocalVoucherify) -> None:
    ids = submit(2)
    voucherify.misbehave("poll", Delay(60), times=None)

    async def cancel_all() -> float:
        waiting = [asyncio.create_task(event(trigger(action_id))) for action_id in ids]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        return time.monotonic() - began

    assert run(cancel_all()) < 10


def test_a_poll_that_hangs_does_not_keep_a_trigger_beyond_its_end(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_voucherify.triggers import poller

    monkeypatch.setattr(poller, "LAST_POLL_SECONDS", 0.2)
    ids = submit(2)
    voucherify.misbehave("poll", Delay(60), times=None)

    assert run(statuses([trigger(action_id, end_time=time.time() + 0.3) for action_id in ids])) == ["timeout"] * 2


def test_a_head_that_comes_bit_by_bit_keeps_no_trigger_beyond_its_end(
    monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    stop = threading.Event()

    def drip(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threads.append(threading.Thread(target=send, args=(connection,)))
                threads[-1].start()

    def send(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while not stop.wait(0.05):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=drip, args=(listening,))]
        threads[0].start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        connection = {"conn_type": "voucherify", "host": url, "login": APP_ID, "password": SECRET_KEY}
        monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(connection | {"extra": {"timeout": 0.2}}))
        ended = run(statuses([trigger(f"aa_{n}", end_time=time.time() + 3) for n in range(3)]))
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    assert ended == ["timeout"] * 3
    assert "Poll 1 of" in task_log(), "each poll has an end of its own"


def test_a_secrets_backend_that_hangs_holds_up_its_own_connection_alone(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_action, "OPENING_SECONDS", 0.2)
    monkeypatch.setattr(async_action, "MIN_OPENING_SECONDS", 0.2)
    released, asked = threading.Event(), []

    def look_up(conn_id: str) -> Any:
        asked.append(conn_id)
        if conn_id == "slow":
            released.wait(30)
        return BaseHook.get_connection("voucherify_default")

    async def from_a_backend(conn_id: str) -> Any:
        return await sync_to_async(look_up)(conn_id)

    monkeypatch.setattr(hooks, "get_async_connection", from_a_backend)
    [done] = submit(1)

    async def both() -> tuple[list[str], str, str]:
        slow = [asyncio.create_task(event(trigger(done, "slow", end_time=time.time() + 0.5))) for _ in range(3)]
        quick = (await event(trigger(done)))["status"]
        assert not released.is_set()
        ended = [(await one)["status"] for one in slow]
        released.set()
        later = (await event(trigger(done, "slow")))["status"]
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)
        return ended, quick, later

    assert run(both()) == (["unreachable"] * 3, "finished", "finished")
    assert asked.count("slow") <= 2, "no thread beside one that hangs"


def test_a_secrets_backend_s_own_timeout_is_told_as_such(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def from_a_backend(conn_id: str) -> Any:
        raise TimeoutError("the vault did not answer in 2 s")

    async def open_it() -> None:
        async with await shared_poller("voucherify_default"):
            pass

    monkeypatch.setattr(hooks, "get_async_connection", from_a_backend)

    with pytest.raises(TimeoutError, match="the vault did not answer"):
        asyncio.run(open_it())


def test_a_restarted_triggerer_takes_all_up_again(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(times=30, seconds=0.03)
    triggers = [trigger(action_id) for action_id in submit(30)]

    async def interrupted() -> None:
        waiting = [asyncio.create_task(event(one)) for one in triggers]
        await asyncio.sleep(0.2)
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)

    run(interrupted())
    again = [VoucherifyAsyncActionTrigger(**one.serialize()[1]) for one in triggers]

    assert run(statuses(again)) == ["finished"] * 30


def test_an_unknown_action_is_only_its_own_trigger_s_trouble(voucherify: LocalVoucherify) -> None:
    ids = submit(2)

    assert run(statuses([trigger(action_id) for action_id in (ids[0], "aa_00", ids[1])])) == [
        "finished",
        "unreachable",
        "finished",
    ]


def test_an_error_for_good_reaches_all_and_the_next_trigger_connects_anew(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    voucherify.next_actions(times=3, stuck="IN_PROGRESS")
    stuck, [done] = submit(3), submit(1)
    connect(monkeypatch, voucherify)

    async def rotate_the_key() -> tuple[list[str], str]:
        waiting = [asyncio.create_task(event(trigger(action_id))) for action_id in stuck]
        await asyncio.sleep(0.1)
        voucherify.misbehave("poll", Status(401), times=1)
        ended = [fired["status"] for fired in await asyncio.gather(*waiting)]
        return ended, (await event(trigger(done)))["status"]

    assert run(rotate_the_key()) == (["unreachable"] * 3, "finished")


def test_one_that_comes_later_is_not_kept_waiting(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(stuck="ENQUEUED")
    ids = submit(2)

    async def second_comes_later() -> str:
        first = asyncio.create_task(event(trigger(ids[0], not_before=time.time() + 60)))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            status = (await event(trigger(ids[1])))["status"]
        first.cancel()
        await asyncio.wait([first])
        return str(status)

    assert run(second_comes_later()) == "finished"


def test_where_some_have_given_up_the_next_trigger_connects_anew(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = submit(2)
    voucherify.misbehave(lambda method, path: "async-actions" in path, Status(503), times=None)

    async def move() -> tuple[str, str]:
        patient = asyncio.create_task(event(trigger(stuck[0], max_consecutive_failures=1_000)))
        impatient = await event(trigger(stuck[1], max_consecutive_failures=1))
        with LocalVoucherify(app_id="app-0c5547cc5e17", secret_key="secret-f7e4-8d21-do-not-print") as elsewhere:
            connect(monkeypatch, elsewhere)
            later = await event(trigger(await asyncio.to_thread(lambda: submit(1)[0])))
        patient.cancel()
        await asyncio.wait([patient])
        return impatient["status"], later["status"]

    assert run(move()) == ("unreachable", "finished")


def test_an_id_that_cannot_be_sent_fails_and_does_not_wait(voucherify: LocalVoucherify) -> None:
    with pytest.raises(UnicodeEncodeError):
        run(event(trigger("aa_\ud800")))


def test_the_log_says_how_far_it_is(voucherify: LocalVoucherify, task_log: Callable[[], str]) -> None:
    [action_id] = submit(1)
    in_order_of(voucherify, [0], 0.3)

    run(event(trigger(action_id)))

    lines = task_log().count(f"Async action {action_id} is IN_PROGRESS (50 %)")
    assert 1 <= lines <= len(gets(voucherify))


def test_those_that_are_not_next_say_now_and_then_how_many_are_ahead(
    voucherify: LocalVoucherify, task_log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_voucherify.triggers import poller

    monkeypatch.setattr(poller, "QUIET_SECONDS", 0.4)
    voucherify.next_actions(times=5, stuck="ENQUEUED")
    end_time = time.time() + 1.0

    run(statuses([trigger(action_id, end_time=end_time) for action_id in submit(5)]))

    assert 1 <= task_log().count("; 4 ahead of it in this triggerer") <= 3
