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
    dag_id: str, state: str | None, summary: SyncSummary | None, *, has_state: bool, only_compares: bool = False
) -> list[Step]:
    """
    Return what can be done after a run; nothing after one in which nothing went wrong.

    :param state: of the task instance.
    :param has_state: whether the task remembers what Voucherify has confirmed.
    :param only_compares: whether it is a drift report, which sends nothing.
    """
    again = _compare_again(state) if only_compares else _again(state, has_state=has_state)
    steps = [*_after(summary), *again]
    return [*steps, *(_full_refresh(dag_id) if steps and has_state and not only_compares else [])]


def _after(summary: SyncSummary | None) -> Iterator[Step]:
    if summary is None:
        return
    yield from map(Step, what_now(summary))
    if summary.is_drift_report:
        if summary.not_as_sent:
            yield Step("Send what is different or missing, and nothing else: run the task with", "repair=True")
        return
    if summary.unexpected and summary.report_uri and summary.resource:
        path = json.dumps(f"{summary.report_uri.rstrip('/')}/failures.jsonl")
        yield Step(
            "Send the failed records alone once they are put right, with a task such as",
            f'VoucherifyBulkUpdateOperator(task_id="send_again", resource="{summary.resource}", path={path})',
        )


def _again(state: str | None, *, has_state: bool) -> Iterator[Step]:
    if state == "failed":
        sends = "what Voucherify has confirmed is not sent again" if has_state else "every row is sent again"
        yield Step(
            f"Run it again: clear the task in Airflow (the page with its log has a button for it); {sends}. If a later "
            "run has succeeded, do not: it would send older rows than that one did"
        )
    if state == "upstream_failed":
        yield Step("The task before it failed: clear that one in Airflow, and this one runs too")


def _compare_again(state: str | None) -> Iterator[Step]:
    if state == "failed":
        yield Step("Run it again: clear the task in Airflow; it compares anew, and sends nothing")


def _full_refresh(dag_id: str) -> Iterator[Step]:
    yield Step(
        "If values at Voucherify are in doubt, send every row, whatever was confirmed before: give the task",
        """full_refresh="{{ params.get('full_refresh', False) }}\"""",
    )
    conf = shlex.quote(json.dumps({"full_refresh": True}))
    yield Step("and start a run that asks for it", f"airflow dags trigger {shlex.quote(dag_id)} --conf {conf}")
