"""Reading the list of async actions: only as far as needed, and to an end whatever it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.async_action import AsyncActionList
from airflow_provider_voucherify.models.times import epoch, iso
from airflow_provider_voucherify.sync.waiting.action_list import ListSweep, unfinished_in_list


class Project:
    """A local Voucherify on a clock that is turned by hand, and a client of it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0005
        self.server = LocalVoucherify(app_id="app", secret_key="secret", clock=lambda: self.now)
        self.server.start()
        settings = ConnectionSettings.build(application_id="app", secret_key="secret", host=self.server.base_url)
        self.client = VoucherifyClient(settings, retry=RetryPolicy(attempts=1))

    def submit(self, actions: int, seconds_between: float = 0.001) -> list[str]:
        ids = []
        for number in range(actions):
            ids.append(self.client.bulk_update("customers", [{"source_id": f"c{number}"}]))
            self.now += seconds_between
        return ids

    def sweep(self, wanted: list[str], newest: float | None = None, pages: int = 10) -> ListSweep:
        sweep = ListSweep(newest, pages)
        while not sweep.is_done:
            sweep.take(self.client.list_async_actions(100, sweep.end_date), wanted)
        return sweep

    @property
    def lists(self) -> int:
        return len(self.server.requests("GET", "/v1/async-actions"))


@pytest.fixture
def project() -> Iterator[Project]:
    project = Project()
    yield project
    project.client.close()
    project.server.stop()


def test_it_reads_as_far_back_as_the_oldest_that_is_wanted(project: Project) -> None:
    ids = project.submit(450)

    sweep = project.sweep([ids[449], ids[280]])

    assert project.lists == sweep.pages == 2
    assert {ids[449], ids[280]} <= sweep.seen


def test_nothing_newer_is_read_where_the_newest_is_known(project: Project) -> None:
    ids = project.submit(250)
    (newest,) = [action.created_at for action in project.server.actions.values() if action.id == ids[20]]

    sweep = project.sweep(ids[:20], newest=newest + 0.001)

    assert sweep.seen == set(ids[:21])
    assert project.lists == 1


def test_actions_of_one_millisecond_are_not_lost_between_two_pages(project: Project) -> None:
    ids = [action_id for _ in range(4) for action_id in (*project.submit(50, 0.0), *project.submit(1))]

    assert project.sweep(ids).seen == set(ids)


def test_more_actions_in_one_millisecond_than_fit_on_a_page_are_no_endless_loop(project: Project) -> None:
    ids = project.submit(150, seconds_between=0.0)

    assert len(project.sweep(ids).seen) == 100
    assert project.lists <= 3


def test_a_page_that_comes_again_is_the_last() -> None:
    action = {"id": "aa_1", "created_at": "2026-11-21T10:00:00.000Z"}
    page = AsyncActionList.model_validate({"async_actions": [action], "has_more": True})
    sweep = ListSweep(None, 10)

    for _ in range(3):
        assert not sweep.is_done
        sweep.take(page, ["aa_2"])

    assert sweep.is_done


@given(st.integers(0, 4_000_000_000_000))
def test_no_millisecond_is_lost_when_a_time_is_written(milliseconds: int) -> None:
    written = iso(milliseconds / 1000)

    assert epoch(written) == milliseconds / 1000
    assert epoch(iso(milliseconds / 1000 + 0.001)) == (milliseconds + 1) / 1000


def test_it_ends_after_so_many_pages(project: Project) -> None:
    project.submit(450)

    assert project.sweep(["aa_00"], pages=3).pages == project.lists == 3


def test_a_page_without_times_is_the_last() -> None:
    sweep = ListSweep(None, 10)

    sweep.take(AsyncActionList.model_validate({"async_actions": [{"id": "aa_1"}], "has_more": True}), ["aa_2"])

    assert sweep.is_done


@pytest.mark.parametrize(("told", "is_last"), [({}, False), ({"has_more": None}, False), ({"has_more": False}, True)])
def test_only_a_page_that_says_so_or_is_empty_is_the_last(told: dict[str, bool | None], is_last: bool) -> None:
    assert AsyncActionList.model_validate({"async_actions": [{"id": "aa_1"}], **told}).is_last is is_last
    assert AsyncActionList.model_validate({"async_actions": [], **told}).is_last


def test_it_says_which_are_unfinished_in_the_order_given(project: Project) -> None:
    project.server.next_actions(times=2, stuck="ENQUEUED")
    ids = project.submit(3)
    last = project.client.get_async_action(ids[2])

    assert unfinished_in_list(project.client, [ids[1], ids[0], "aa_00"], last) == [ids[1], ids[0]]
    assert project.lists == 1
    assert unfinished_in_list(project.client, [], last) == []
    assert project.lists == 1


def test_one_that_was_created_a_moment_later_is_seen_too(project: Project) -> None:
    project.server.next_actions(times=2, stuck="ENQUEUED")
    last, other = project.submit(2)

    assert unfinished_in_list(project.client, [other], project.client.get_async_action(last)) == [other]


def test_a_list_that_cannot_be_had_says_nothing(project: Project) -> None:
    project.server.next_actions(stuck="ENQUEUED")
    ids = project.submit(2)
    last = project.client.get_async_action(ids[1])
    project.server.misbehave("list", Status(403), times=None)

    assert unfinished_in_list(project.client, ids[:1], last) == []
