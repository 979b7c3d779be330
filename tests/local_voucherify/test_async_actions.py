"""Stories about the queue of async actions and how actions are shown."""

from __future__ import annotations

import time

import pytest


def _statuses(shop, actions):
    return [shop.poll(action)["status"] for action in actions]


def test_actions_are_processed_one_at_a_time_in_the_order_of_submission(open_shop, clock):
    shop = open_shop(action_seconds=10, clock=clock)
    actions = [shop.submit("customers", [{"source_id": f"c{n}"}]) for n in range(3)]

    assert _statuses(shop, actions) == ["IN_PROGRESS", "ENQUEUED", "ENQUEUED"]
    clock.turn(10)
    assert _statuses(shop, actions) == ["DONE", "IN_PROGRESS", "ENQUEUED"]
    assert list(shop.server.customers) == ["c0"]
    clock.turn(20)
    assert _statuses(shop, actions) == ["DONE", "DONE", "DONE"]


def test_records_add_to_the_time_of_their_action(open_shop, clock):
    shop = open_shop(action_seconds=1, seconds_per_record=2, clock=clock)
    action = shop.submit("customers", [{"source_id": f"c{n}"} for n in range(3)])

    clock.turn(6.9)
    assert shop.poll(action)["status"] == "IN_PROGRESS"
    clock.turn(0.1)
    assert shop.poll(action)["processing_time"] == 7000


def test_the_queue_runs_in_real_time(open_shop):
    shop = open_shop(action_seconds=0.1)
    started = time.monotonic()
    actions = [shop.submit("customers", []) for _ in range(2)]
    while shop.poll(actions[-1])["status"] != "DONE":
        time.sleep(0.01)

    assert time.monotonic() - started >= 0.19


@pytest.mark.parametrize("fraction", [0.0004, 0.0005, 0.0006, 0.9996])
def test_an_action_that_takes_no_time_is_done_at_once(open_shop, clock, fraction):
    clock.turn(fraction)

    assert open_shop(clock=clock).update("customers", [{"source_id": "c1"}])["status"] == "DONE"


def test_an_action_shows_its_progress_and_a_result_only_at_the_end(open_shop, clock):
    shop = open_shop(action_seconds=10, clock=clock)
    action = shop.submit("customers", [{"source_id": "c1"}])

    clock.turn(5)
    running = shop.poll(action)
    assert (running["progress"], running["operation_status"], "result" in running) == (49, "UNKNOWN", False)
    clock.turn(5)
    done = shop.poll(action)
    assert (done["progress"], done["operation_status"], "result" in done) == (100, "SUCCESS", True)
    assert (done["created_at"], done["updated_at"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:00:10.000Z")
    assert done["id"].startswith("aa_")
    assert done["request_id"].startswith("v-")


def test_an_unknown_action_is_answered_with_the_documented_404(shop):
    answer = shop.http.get("/v1/async-actions/aa_0aeb82bd55d5beffb")

    assert answer.status_code == 404
    assert answer.json()["details"] == "Cannot find async_action with id aa_0aeb82bd55d5beffb"
    assert answer.json()["resource_type"] == "async_action"


def test_the_list_gives_the_newest_first_without_results_and_pages_by_end_date(open_shop, clock):
    shop = open_shop(clock=clock)
    submitted = []
    for _ in range(5):
        submitted.append(shop.submit("customers", []))
        clock.turn(1)

    first = shop.http.get("/v1/async-actions", params={"limit": 3}).json()
    end_date = first["async_actions"][-1]["created_at"]
    rest = shop.http.get("/v1/async-actions", params={"limit": 3, "end_date": end_date}).json()

    listed = [action["id"] for action in first["async_actions"] + rest["async_actions"]]
    assert listed == submitted[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert not any("result" in action for action in first["async_actions"])


def test_the_list_gives_ten_unless_told_otherwise(shop):
    for _ in range(11):
        shop.submit("customers", [])

    answer = shop.http.get("/v1/async-actions").json()
    assert (len(answer["async_actions"]), answer["has_more"]) == (10, True)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=ten", "end_date=yesterday"])
def test_wrong_query_parameters_give_a_400(shop, query):
    answer = shop.http.get(f"/v1/async-actions?{query}")

    assert (answer.status_code, answer.json()["key"]) == (400, "invalid_query_params")


def test_an_end_date_may_be_a_day(shop):
    assert shop.http.get("/v1/async-actions?end_date=2016-11-16").json()["async_actions"] == []


def test_an_action_can_fail_as_a_whole(shop):
    shop.server.next_actions(status="FAILED")
    action = shop.update("customers", [{"source_id": "c1"}])

    assert (action["status"], action["operation_status"], action["progress"]) == ("FAILED", "FAILED", 0)
    assert "result" not in action
    assert not shop.server.customers
    assert shop.update("customers", [])["status"] == "DONE"


@pytest.mark.parametrize("status", ["ENQUEUED", "IN_PROGRESS"])
def test_an_action_can_be_stuck_without_holding_up_the_next(open_shop, clock, status):
    shop = open_shop(action_seconds=1, clock=clock)
    shop.server.next_actions(stuck=status)
    stuck, after = shop.submit("customers", []), shop.submit("customers", [])

    clock.turn(3600)
    assert _statuses(shop, [stuck, after]) == [status, "DONE"]


def test_a_finished_action_can_contradict_itself(shop):
    shop.server.next_actions(times=2, operation_status="SUCCESS", result_fields={"failed_count": 5})

    for _ in range(2):
        action = shop.update("customers", [{"source_id": "c1"}])
        assert (action["operation_status"], action["result"]["failed_count"]) == ("SUCCESS", 5)
    assert shop.update("customers", [])["result"]["failed_count"] == 0


def test_a_finished_action_can_have_any_status_result_or_none(shop):
    shop.server.next_actions(status="ARCHIVED", result=None)
    shop.server.next_actions(without=["result", "operation_status"])
    shop.server.next_actions(result={"message": "surprise"})

    strange, without, surprise = (shop.update("customers", []) for _ in range(3))
    assert (strange["status"], strange["result"]) == ("ARCHIVED", None)
    assert not {"result", "operation_status"} & without.keys()
    assert surprise["result"] == {"message": "surprise"}


def test_one_action_can_take_longer(open_shop, clock):
    shop = open_shop(clock=clock)
    shop.server.next_actions(seconds=60)
    slow, after = shop.submit("customers", []), shop.submit("customers", [])

    assert _statuses(shop, [slow, after]) == ["IN_PROGRESS", "ENQUEUED"]


def test_a_hook_can_rewrite_what_is_shown(shop):
    shop.server.script_action(lambda action, wire: {**wire, "user": {"id": "u1"}, "records": action.record_count})

    assert shop.update("customers", [{"source_id": "c1"}])["user"] == {"id": "u1"}
    assert shop.http.get("/v1/async-actions").json()["async_actions"][0]["records"] == 1
