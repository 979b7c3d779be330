"""Looking for the action of a batch whose answer was lost: what it may cost, and what it finds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import DropAfter, DropBefore, LocalVoucherify
from airflow_provider_voucherify.models.errors import VoucherifyNoAnswerError
from airflow_provider_voucherify.sync.destination import update_destination
from airflow_provider_voucherify.sync.journal import Journal
from airflow_provider_voucherify.sync.plan import Plan
from airflow_provider_voucherify.sync.sources import from_records
from airflow_provider_voucherify.sync.submission import Submission
from airflow_provider_voucherify.sync.submitted import SubmittedSync

OURS = [{"source_id": "c1"}, {"source_id": "c2"}]


class Store:
    """Airflow's task state store."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


@dataclass
class Project:
    """A local Voucherify, and a task that sends two records to it in one batch."""

    server: LocalVoucherify
    client: VoucherifyClient
    store: Store

    def send(self, in_doubt_seconds: float = 600.0) -> SubmittedSync:
        """Try once; a later try finds what an earlier one has left."""
        with Plan(update_destination("customers")) as plan:
            plan.read(from_records(OURS, "source_id"))
            return Submission(
                plan,
                self.client,
                Journal(self.store, 1),
                in_doubt_seconds=in_doubt_seconds,
                sleep=lambda seconds: time.sleep(min(seconds, 0.05)),
            ).run()

    def lose(self, fault: Any) -> None:
        """Send the batch, and lose its answer."""
        self.server.misbehave("submit", fault)
        with pytest.raises(VoucherifyNoAnswerError):
            self.send()

    def others_send(self, times: int) -> None:
        """Let somebody else send batches of as many records."""
        for number in range(times):
            self.client.bulk_update("customers", [{"source_id": f"x{number}"}, {"source_id": f"y{number}"}])

    @property
    def reads(self) -> list[str]:
        """The calls of the search, without their queries; downloads of reports are none."""
        return [r.path for r in self.server.received if r.method == "GET" and "/async-actions" in r.path]


@pytest.fixture
def project() -> Iterator[Callable[..., Project]]:
    """Give a function that starts a project with the options of its local Voucherify."""
    with ExitStack() as cleanup:

        def start(**options: Any) -> Project:
            server = cleanup.enter_context(LocalVoucherify(**options))
            connection = ConnectionSettings.build(
                application_id=server.options.app_id, secret_key=server.options.secret_key, host=server.base_url
            )
            return Project(server, cleanup.enter_context(VoucherifyClient(connection)), Store())

        yield start


def test_when_its_time_is_up_nothing_more_is_asked(
    project: Callable[..., Project], caplog: pytest.LogCaptureFixture
) -> None:
    here = project()
    here.lose(DropBefore())
    here.server.next_actions(times=30, stuck="IN_PROGRESS")
    here.others_send(30)

    sync = here.send(in_doubt_seconds=1.0)

    assert (sync.requests, sync.resubmitted) == (1, 1)
    assert len(set(here.reads)) == 2, "the list and one candidate"
    assert "Batch 1 is in doubt and its action is not to be found (the search has taken its 1 s)" in caplog.text


def test_the_search_leaves_half_of_the_calls_that_a_known_limit_has(
    project: Callable[..., Project], caplog: pytest.LogCaptureFixture
) -> None:
    here = project(api_calls=(30, 600), bulk_calls_are_api_calls=False)
    here.lose(DropBefore())
    here.others_send(40)

    sync = here.send()

    assert (sync.requests, sync.resubmitted) == (1, 1)
    assert len(here.reads) == 15
    assert "(the rate limit leaves no more than 15 calls for the search)" in caplog.text


def test_without_a_limit_every_candidate_is_looked_at(
    project: Callable[..., Project], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    here = project()
    here.lose(DropAfter())
    here.others_send(40)

    sync = here.send()

    assert (sync.requests, sync.reattached) == (0, 1)
    assert sync.async_action_ids == [next(iter(here.server.actions))]
    assert "Batch 1 was in doubt and has been found" in caplog.text


def test_an_action_that_has_finished_is_found_without_waiting_for_others(project: Callable[..., Project]) -> None:
    here = project()
    here.lose(DropAfter())
    here.server.next_actions(times=3, stuck="IN_PROGRESS")
    here.others_send(3)
    ours = next(iter(here.server.actions))

    sync = here.send()

    assert sync.async_action_ids == [ours]
    assert here.reads == ["/v1/async-actions", f"/v1/async-actions/{ours}"]


def test_a_task_that_is_told_to_end_gives_up_the_search_and_sends_nothing(project: Callable[..., Project]) -> None:
    here = project()
    here.lose(DropBefore())
    here.server.next_actions(stuck="IN_PROGRESS")
    here.others_send(1)
    posted, told = len(here.server.requests("POST")), iter([False, False, False])

    with pytest.raises(VoucherifyTaskKilledError, match="when 0 of 1 requests had been answered"):
        here.send(killed=lambda: next(told, True))

    assert len(here.server.requests("POST")) == posted
    assert len(here.reads) == 2, "the list and one candidate"
    assert here.send(in_doubt_seconds=0.0).resubmitted == 1, "the next try still knows that it is in doubt"
