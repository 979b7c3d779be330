"""A batch whose answer was lost is sent again, always: nothing that others have sent is taken for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import DropAfter, DropBefore, LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import VoucherifyNoAnswerError, VoucherifyPermissionError
from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.results.collect import collect_outcomes
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.rows.sources import from_records
from airflow_provider_voucherify.sync.sending.journal import Journal, Try
from airflow_provider_voucherify.sync.sending.submission import Submission
from airflow_provider_voucherify.sync.types.submitted import SubmittedSync

OURS = [{"source_id": "c1", "email": "c1@example.com"}, {"source_id": "c2", "email": "c2@example.com"}]


class Store:
    """Airflow's task state store."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


@dataclass
class Project:
    """A local Voucherify, and a task that sends two records to it in one batch."""

    server: LocalVoucherify
    client: VoucherifyClient
    store: Store

    def send(self) -> SubmittedSync:
        """Try once; a later try finds what an earlier one has left."""
        with Plan(update_destination("customers")) as plan:
            plan.read(from_records(OURS, "source_id"))
            return Submission(plan, self.client, Journal(self.store, Try())).run()

    def lose(self, fault: Any) -> None:
        """Send the batch, and lose its answer."""
        self.server.misbehave("submit", fault)
        with pytest.raises(VoucherifyNoAnswerError):
            self.send()

    def settle(self, sync: SubmittedSync) -> SyncSummary:
        for async_action_id in sync.async_action_ids:
            while not self.client.get_async_action(async_action_id).is_finished:
                pass
        return collect_outcomes(sync, self.client, resource="customers")


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


def test_a_sibling_task_s_action_of_the_same_ids_is_not_taken_for_ours(
    project: Callable[..., Project], caplog: pytest.LogCaptureFixture
) -> None:
    here = project()
    here.lose(DropBefore())
    here.client.bulk_update("customers", [{"source_id": "c1", "metadata": {}}, {"source_id": "c2", "metadata": {}}])
    received = len(here.server.received)

    sync = here.send()

    assert (sync.requests, sync.reattached, sync.resubmitted) == (1, 0, 1)
    assert len(here.server.received) == received + 1, "something was looked for"
    assert "The answer to batch 1 was lost or no longer counts, so it is sent again" in caplog.text
    assert here.settle(sync).succeeded == 2
    assert [customer["email"] for customer in here.server.customers.values()] == ["c1@example.com", "c2@example.com"]


def test_what_may_have_arrived_twice_is_told(project: Callable[..., Project], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    here = project()
    here.lose(DropAfter())

    summary = here.settle(here.send())

    assert summary.warning == (
        "1 request (2 records) may have reached Voucherify twice, since the answer to the first one was lost "
        "or no longer counts; records that the first one created do not count as created"
    )
    assert summary.warning in caplog.text


@pytest.mark.parametrize(
    ("fault", "created"),
    [(DropAfter(), None), (DropBefore(), 2)],
    ids=["the first request created them", "the second request created them"],
)
def test_who_created_a_record_is_told_only_where_that_can_be_known(
    project: Callable[..., Project], fault: Any, created: int | None
) -> None:
    here = project()
    here.lose(fault)

    summary = here.settle(here.send())

    assert (summary.succeeded, summary.created) == (2, created)
    assert summary.updated == (None if created is None else 0)


def test_a_batch_in_doubt_that_is_refused_the_next_time_still_is_in_doubt(project: Callable[..., Project]) -> None:
    here = project()
    here.lose(DropAfter())
    here.server.misbehave("submit", Status(403))
    with pytest.raises(VoucherifyPermissionError):
        here.send()

    assert here.send().resubmitted == 1


def test_the_halves_of_a_batch_in_doubt_are_in_doubt(project: Callable[..., Project]) -> None:
    here = project()
    here.lose(DropAfter())
    here.server.misbehave("submit", Status(413))

    sync = here.send()

    assert [batch.resubmitted for batch in sync.batches] == [True, True]
    assert here.settle(sync).created is None


def test_that_a_batch_was_sent_again_outlives_a_deferral(project: Callable[..., Project]) -> None:
    here = project()
    here.lose(DropAfter())
    sync = here.send()

    assert SubmittedSync.from_json(json.loads(json.dumps(sync.to_json())), sync.async_action_ids) == sync


def test_that_a_batch_was_sent_twice_is_not_forgotten_if_its_action_fails(project: Callable[..., Project]) -> None:
    """What the first request has created the third one finds, and does not create."""
    here = project()
    here.lose(DropAfter())
    action_id = here.send().async_action_ids[0]
    Journal(here.store, Try()).rejected(action_id)

    sync = here.send()

    assert (sync.requests, sync.resubmitted, sync.async_action_ids != [action_id]) == (1, 1, True)
    assert here.settle(sync).created is None
