"""Airflow before 3.3 keeps nothing between two tries of a task: a retry sends everything again, and says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from installed import AIRFLOW
from test_durable import ONCE, sync, times_posted

from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status

pytestmark = pytest.mark.skipif(AIRFLOW >= (3, 3), reason="this Airflow has a task state store; see test_durable.py")

TWICE = dict.fromkeys(ONCE, 2)


@pytest.mark.parametrize("options", [{}, {"completion_timeout": 0.1}], ids=["refused", "timeout"])
def test_a_retry_sends_everything_again_and_says_so_once(
    voucherify: LocalVoucherify, task_log: Callable[[], str], options: dict[str, Any]
) -> None:
    if options:
        voucherify.next_actions(times=3, stuck="IN_PROGRESS")
    else:
        voucherify.misbehave("poll", Status(409))

    run = sync(**options)

    assert run.state == "success"
    assert times_posted(voucherify) == TWICE
    assert "This Airflow has no task state store" in task_log()
    summary = run.xcom("sync")
    assert (summary["created"] + summary["updated"], summary["requests"]) == (6, 3)


def test_with_retry_failed_records_too(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(status="FAILED", times=3)

    run = sync(on_retry="resend_failed")

    assert run.state == "success"
    assert times_posted(voucherify) == TWICE


def test_a_task_that_is_not_durable_is_not_warned(voucherify: LocalVoucherify, task_log: Callable[[], str]) -> None:
    assert sync(on_retry="restart").state == "success"

    assert "task state store" not in task_log()
