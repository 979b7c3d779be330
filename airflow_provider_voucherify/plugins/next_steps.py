"""What a person can do after a run, with the lines to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_voucherify.sync.results.summary_text import what_now

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.results.summary import SyncSummary


class Step(NamedTuple):
    """
    One thing to do.

    :param text: what, in a sentence.
    :param lines: to paste; None if there is nothing to paste.
    """

    text: str
    lines: str | None = None


def next_steps(
    dag_id: str, task_id: str, state: str | None, summary: SyncSummary | None, *, has_state: bool
) -> list[Step]:
    """
    Return what can be done after a run.

    :param state: of the task instance.
    :param has_state: whether the task remembers what Voucherify has confirmed.
    """
    return [*_after(summary), *_again(dag_id, task_id, state), *(_full_refresh(dag_id) if has_state else [])]


def _after(summary: SyncSummary | None) -> Iterator[Step]:
    if summary is not None:
        yield from map(Step, what_now(summary))
        if summary.unexpected and summary.report_uri:
            path = json.dumps(f"{summary.report_uri.rstrip('/')}/failures.jsonl")
            resource = json.dumps(summary.resource or "customers")
            yield Step(
                "Send the failed records alone once they are put right, with a task such as",
                f'VoucherifyBulkUpdateOperator(task_id="send_again", resource={resource}, path={path})',
            )


def _again(dag_id: str, task_id: str, state: str | None) -> Iterator[Step]:
    if state in ("failed", "upstream_failed"):
        task = shlex.quote(f"^{task_id}$")
        yield Step(
            "Run the task again: what the try before has sent and Voucherify has confirmed is not sent again",
            f"airflow tasks clear --yes --only-failed --task-regex {task} {shlex.quote(dag_id)}",
        )


def _full_refresh(dag_id: str) -> Iterator[Step]:
    yield Step(
        "Send every row, whatever was confirmed before, by a task with this parameter",
        'full_refresh="{{ params.full_refresh }}"',
    )
    conf = shlex.quote(json.dumps({"full_refresh": True}))
    yield Step("and a run that asks for it", f"airflow dags trigger {shlex.quote(dag_id)} --conf {conf}")
