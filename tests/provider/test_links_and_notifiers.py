"""What people see beside the log: the extra links, and messages through any notifier."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseNotifier, task
from connections import SECRET_KEY
from dags import run_dag, shown_links
from installed import AIRFLOW

from airflow_provider_voucherify.compat import Pages, has_plugin_pages
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.links.async_action import PAGE_XCOM_KEY, report_url
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.endpoints import dashboard_url
from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.notifications.summary import VoucherifySummaryNotifier
from airflow_provider_voucherify.notifications.texts import (
    Failed,
    html_links,
    html_text,
    ready_texts_of_mapped,
    slack_links,
    slack_text,
    texts_without_summary,
)
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.sync.results.summary import FailureReason, SyncSummary

RECORDS = [{"source_id": "c1"}, {"source_id": "c2", "birthdate": "soon"}]


class Messages(BaseNotifier):
    """A notifier as Airflow's providers have them: a template, rendered with the callback's context."""

    template_fields = ("text",)
    sent: list[str]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.sent = []

    def notify(self, context: Any) -> None:
        self.sent.append(self.text)


def dag_with(**kwargs: Any) -> DAG:
    with DAG("links_and_notifiers", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", **({"records": RECORDS, "fail_if": {"failed": 1}} | kwargs)
        )
    return dag


def test_a_notifier_is_told_of_failed_records_while_the_task_is_green(voucherify: LocalVoucherify) -> None:
    notifier = Messages("{{ voucherify_summary.refused }} refused in {{ dag.dag_id }}: {{ voucherify_text }}")

    assert run_dag(dag_with(on_failed_records_callback=notifier)).state == "success"

    [text] = notifier.sent
    assert text.startswith("1 refused in links_and_notifiers: Voucherify customers: 2 rows - 1 created, 1 refused")
    assert "- 1 refused, invalid_value: birthdate must be a date as YYYY-MM-DD (actual value is 'soon'): c2\n" in text


def test_a_summary_notifier_brings_the_summary_to_airflow_s_own_callbacks(voucherify: LocalVoucherify) -> None:
    notifier = Messages("{{ voucherify_text }}")

    run_dag(dag_with(on_success_callback=VoucherifySummaryNotifier(notifier)))

    assert notifier.sent[0].startswith("Voucherify customers: 2 rows")


def mapped_dag(notifier: Callable[[Any], Any]) -> DAG:
    """A mapped task whose second instance fails before it reads a row, and a task after it that tells of them all."""
    with DAG("mapped_and_told", schedule=None) as dag:
        part = VoucherifyBulkUpdateOperator.partial(task_id="part", resource="customers", fail_if={"failed": 1}).expand(
            records=[[{"source_id": "c9"}], 7, RECORDS]
        )
        part >> task(task_id="tell", trigger_rule="all_done", on_success_callback=notifier)(lambda: None)()
    return dag


def test_a_summary_notifier_tells_of_each_task_of_a_mapped_one(voucherify: LocalVoucherify) -> None:
    told: list[dict[str, Any]] = []

    run_dag(mapped_dag(VoucherifySummaryNotifier(told.append, task_id="part")))

    [context] = told
    first, second, third, *failures = context["voucherify_text"].split("\n\n")
    assert first.startswith("map_index=0: Voucherify customers: 1 row - 1 created")
    assert second == "map_index=1: ended before it knew what became of its rows, see its log"
    assert third.startswith("map_index=2: Voucherify customers: 2 rows - 1 created, 1 refused\n- 1 refused, invalid_v")
    assert failures == []
    assert context["voucherify_slack_text"] == slack_text(context["voucherify_text"])
    assert context["voucherify_html"].startswith("<p>map_index=1:</p>\n<p>ended before it knew")
    assert context["voucherify_html"].count("<table") == 1
    assert [summary["rows_read"] for summary in context["voucherify_summary"]] == [1, 2]


def test_a_mapped_task_s_own_callback_tells_of_itself(voucherify: LocalVoucherify) -> None:
    told: list[dict[str, Any]] = []
    with DAG("mapped_and_told", schedule=None) as dag:
        VoucherifyBulkUpdateOperator.partial(
            task_id="part", resource="customers", on_success_callback=VoucherifySummaryNotifier(told.append)
        ).expand(records=[[{"source_id": "c1"}], [{"source_id": "c2"}, {"source_id": "c3"}]])

    run_dag(dag)

    assert sorted((context["ti"].map_index, context["voucherify_summary"]["rows_read"]) for context in told) == [
        (0, 1),
        (1, 2),
    ]


class AwaitedMessages(Messages):
    """A notifier that can be awaited."""

    async def async_notify(self, context: Any) -> None:
        self.sent.append(f"awaited: {self.text}")


def awaited(told: dict[str, Any], notifier: Callable[[Any], Any], task_id: str | None = None) -> None:
    async def notify() -> None:
        await VoucherifySummaryNotifier(notifier, task_id, context=told)

    asyncio.run(notify())


needs_the_exception = pytest.mark.skipif(
    (3, 0) <= AIRFLOW < (3, 3), reason="dag.test() of this Airflow leaves the exception out of a callback's context"
)
needs_deadlines = pytest.mark.needs_airflow("3.1", "its deadline alerts came with it, and only they await notifiers")


@needs_deadlines
@pytest.mark.parametrize("kind", [AwaitedMessages, Messages])
def test_a_summary_notifier_can_be_awaited_around_any_notifier(
    voucherify: LocalVoucherify, kind: type[Messages]
) -> None:
    notifier = kind("{{ voucherify_text }}")

    run_dag(dag_with(on_success_callback=lambda context: awaited(context, notifier)))

    [text] = notifier.sent
    assert text.removeprefix("awaited: ").startswith("Voucherify customers: 2 rows")
    assert text.startswith("awaited") == (kind is AwaitedMessages)


@needs_deadlines
def test_a_deadline_names_the_run_alone_and_the_notifier_names_the_task(voucherify: LocalVoucherify) -> None:
    notifier = AwaitedMessages("{{ voucherify_summary.refused }} refused")

    def as_of_a_deadline(context: Any) -> None:
        run = context["dag_run"]
        awaited({"dag_run": {"dag_id": run.dag_id, "dag_run_id": run.run_id}, "deadline": {}}, notifier, "sync")

    run_dag(dag_with(on_success_callback=as_of_a_deadline))

    assert notifier.sent == ["awaited: 1 refused"]


@needs_deadlines
def test_a_deadline_s_notifier_tells_of_each_task_of_a_mapped_one(voucherify: LocalVoucherify) -> None:
    notifier = AwaitedMessages("{{ voucherify_text }}")

    def as_of_a_deadline(context: Any) -> None:
        run = context["dag_run"]
        awaited({"dag_run": {"dag_id": run.dag_id, "dag_run_id": run.run_id}, "deadline": {}}, notifier, "part")

    run_dag(mapped_dag(as_of_a_deadline))

    [text] = notifier.sent
    assert re.findall(r"map_index=\d: \w+ \w+", text) == [
        "map_index=0: Voucherify customers",
        "map_index=1: ended before",
        "map_index=2: Voucherify customers",
    ]


@needs_the_exception
def test_where_there_is_no_summary_the_message_begins_with_what_failed(voucherify: LocalVoucherify) -> None:
    notifier = Messages("{{ voucherify_summary.failed }} {{ voucherify_text }} / {{ voucherify_html }}")

    run_dag(dag_with(records=None, path="/nowhere/rows.csv", on_failure_callback=VoucherifySummaryNotifier(notifier)))

    (sent,) = notifier.sent
    text, _, mail = sent.partition(" / ")
    assert text.startswith("None Voucherify task sync failed: FileNotFoundError\n")
    assert mail.startswith("<p>Voucherify task sync failed: FileNotFoundError</p>\n<p>")
    assert text.count("rows.csv") == mail.count("rows.csv") > 0
    assert "no summary" not in sent


@needs_the_exception
def test_an_alert_says_what_to_do(voucherify: LocalVoucherify, task_log: Callable[[], str]) -> None:
    notifier = Messages("{{ voucherify_slack_text }}")
    voucherify.misbehave("submit", Status(401, {"code": 401, "message": "Unauthorized", "key": "unauthorized"}))

    run_dag(dag_with(on_failure_callback=VoucherifySummaryNotifier(notifier)))

    (sent,) = notifier.sent
    asked = f"POST {voucherify.base_url}/v1/customers/bulk/async (connection voucherify_default)"
    first, second, third, *_ = sent.removeprefix("```\n").splitlines()
    assert first == "Voucherify task sync failed: VoucherifyAuthenticationError"
    assert second == f"{asked} was answered with 401: Unauthorized (key unauthorized)"
    assert third.startswith(
        f"What to do: Wrong key or wrong region: {voucherify.base_url} does not accept this application ID"
    )
    assert "AirflowFailException" not in sent, "one name of a class is enough"
    assert sent.endswith("|Log in Airflow>")
    assert "XCom not found" not in task_log(), "noise beside the cause"


def test_what_a_task_has_failed_with_has_fewer_than_fifteen_lines_and_no_markup_whatever_it_is() -> None:
    error = VoucherifyError("<!channel> `x` " + "y " * 10_000)
    error.advice = "<b>do</b>"

    texts = texts_without_summary("sync", Failed.of(error), Pages("https://airflow/log", sync="https://airflow/page"))

    assert len(texts["voucherify_text"].splitlines()) < 15
    assert texts["voucherify_text"].endswith(
        "\nWhat to do: <b>do</b>\nRun: https://airflow/page\nLog: https://airflow/log"
    )
    assert "&lt;!channel&gt; 'x'" in texts["voucherify_slack_text"]
    assert "<b>" not in texts["voucherify_html"]
    assert "<!channel>" not in texts["voucherify_html"]


@needs_the_exception
def test_a_secret_in_what_a_task_has_failed_with_is_told_to_nobody(voucherify: LocalVoucherify) -> None:
    notifier = Messages("{{ voucherify_text }} / {{ voucherify_slack_text }} / {{ voucherify_html }}")

    run_dag(
        dag_with(
            records=None, path=f"/nowhere/{SECRET_KEY}.csv", on_failure_callback=VoucherifySummaryNotifier(notifier)
        )
    )

    (sent,) = notifier.sent
    assert sent.count("FileNotFoundError") == 3
    assert sent.count("***.csv") == 3
    assert SECRET_KEY not in sent


@pytest.mark.parametrize("character", ["\n", "\r", "\u2028", "\u202e", "\x1b", "\ud800"])
def test_texts_for_slack_and_mail_have_a_line_for_each_reason_whatever_is_in_it(character: str) -> None:
    ids = [f"c{character}1", "<!channel>", "<b>"]
    reason = FailureReason.model_construct(
        outcome="failed", key="k`", message=f"a{character}b " + "x" * 1_000, count=3, ids=ids
    )
    summary = SyncSummary.model_construct(
        resource="customers",
        rows_read=2,
        submitted=2,
        refused=0,
        failed=3,
        superseded=0,
        async_action_ids=["aa_1"],
        succeeded=1,
        requests=1,
        bytes_sent=9,
        reasons=[reason],
        report_uri="/reports",
        warning="3 of 2 rows failed",
    )

    slack, mail = slack_text(summary.text()).splitlines(), html_text(summary)

    assert [slack[0], slack[-1]] == ["```", "```"]
    assert slack[2] == "Warning: 3 of 2 rows failed"
    assert slack[3].startswith("- 3 failed, k': a b xxx")
    assert slack[3].endswith(": c 1, &lt;!channel&gt;, &lt;b&gt;")
    assert slack[4:-1] == ["Nothing to do yet: the next run sends 3 again", "All of them: /reports/failures.jsonl"]
    assert "<td>c 1, &lt;!channel&gt;, &lt;b&gt;</td>" in mail
    assert mail.splitlines()[-3:] == [
        "<p>Warning: 3 of 2 rows failed</p>",
        "<p>Nothing to do yet: the next run sends 3 again</p>",
        "<p>All of them: /reports/failures.jsonl</p>",
    ]
    assert mail.count("a b") == 1


def test_an_alert_has_links_to_the_page_of_the_run_and_to_the_log_of_the_try(voucherify: LocalVoucherify) -> None:
    told: list[dict[str, Any]] = []

    run = run_dag(dag_with(on_failed_records_callback=told.append))

    page, url = (run.xcom("sync")[name] for name in ("page_url", "log_url"))
    assert url == told[0]["ti"].log_url
    assert told[0]["voucherify_text"].splitlines()[-1] == f"Log: {url}"
    links = [(page, "Run in Airflow"), (url, "Log in Airflow")] if page else [(url, "Log in Airflow")]
    in_slack = "".join(f"\n<{address.replace('&', '&amp;')}|{name}>" for address, name in links)
    assert told[0]["voucherify_slack_text"].endswith(f"\n```{in_slack}")
    assert told[0]["voucherify_html"].endswith(f'<p><a href="{html.escape(url)}">Log in Airflow</a></p>')


@pytest.mark.needs_airflow("3.1", "user interfaces of plugins came with it")
def test_the_page_of_a_run_is_an_extra_link_and_at_the_end_of_the_log(
    voucherify: LocalVoucherify, task_log: Callable[[], str]
) -> None:
    run = run_dag(dag_with())

    page = run.xcom("sync")["page_url"]
    asked = parse_qs(urlsplit(page).query)
    assert urlsplit(page).path == "/plugin/voucherify_syncs"
    assert asked == {"dag": [run.dag_run.dag_id], "task": ["sync"], "run": [run.dag_run.run_id]}
    assert run.xcom("sync", PAGE_XCOM_KEY) == page
    assert f"Run: {page}" in task_log()


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", None])
def test_only_a_web_address_is_linked(url: str | None) -> None:
    assert slack_links({"a": url}) == html_links({"a": url}) == ""


def test_a_link_cannot_end_early() -> None:
    url = "https://airflow/dags/a>b|c<d\"'&e=1"

    assert slack_links({"Log": url}) == "\n<https://airflow/dags/a%3Eb%7Cc%3Cd%22%27&amp;e=1|Log>"
    assert html_links({"Log": url}) == '<p><a href="https://airflow/dags/a%3Eb%7Cc%3Cd%22%27&amp;e=1">Log</a></p>'


def test_many_mapped_instances_are_told_in_a_line_each_those_with_failures_first() -> None:
    of_one = SyncSummary(
        resource="customers",
        rows_read=2,
        submitted=2,
        refused=0,
        superseded=0,
        async_action_ids=[],
        requests=1,
        bytes_sent=9,
        succeeded=2,
    ).as_xcom()
    instances = {index: of_one | ({"failed": 1} if index in (40, 50) else {}) for index in range(100)}

    lines = ready_texts_of_mapped(instances)["voucherify_text"].splitlines()

    assert len(lines) == 14
    assert [line.partition(":")[0] for line in lines[:3]] == ["map_index=40", "map_index=50", "map_index=0"]
    assert lines[-1] == "… and 87 more instances"


def test_a_text_that_is_too_long_for_slack_ends_after_a_whole_line() -> None:
    lines = slack_text("\n".join(f"{number:03} & more" for number in range(1_000))).splitlines()

    assert len(lines) < 1_000
    assert lines[-3] == f"{len(lines) - 4:03} &amp; more"
    assert lines[-2:] == [f"… and {1_000 - (len(lines) - 3)} more lines", "```"]
    assert sum(len(line) + 1 for line in lines[1:-2]) in range(3_980, 4_001), "entities count, too"


@pytest.mark.parametrize("kwargs", [{"deferrable": True}, {"deferrable": False}], ids=["deferrable", "worker"])
@pytest.mark.parametrize("waiting", ["operator", "sensor"])
def test_the_links_are_there_while_a_task_waits_so_killing_it_does_not_lose_them(
    voucherify: LocalVoucherify, tmp_path: Path, waiting: str, kwargs: dict[str, Any]
) -> None:
    seen: list[dict[str, str | None]] = []
    voucherify.script_action(lambda _, wire: seen.append(shown_links(f"linked_{waiting}", "wait")) or wire)

    with DAG(f"linked_{waiting}", schedule=None) as dag:
        if waiting == "operator":
            VoucherifyBulkUpdateOperator(task_id="wait", resource="customers", records=RECORDS[:1], **kwargs)
        else:
            with VoucherifyHook() as hook:
                action_id = hook.update_customers_in_bulk(RECORDS[:1])
            VoucherifyAsyncActionSensor(task_id="wait", async_action_id=action_id, poke_interval=0.02, **kwargs)
    assert run_dag(dag).state == "success"

    link = f"{voucherify.base_url}/v1/async-actions"
    assert seen
    assert [links["Async actions in Voucherify"] for links in seen] == [link] * len(seen)


def test_the_links_are_there_after_a_task_has_failed(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_actions(stuck="ENQUEUED")

    run = run_dag(dag_with(completion_timeout=0.1, report_path=str(tmp_path)))

    assert run.task_state("sync") == "failed"
    page = run.xcom("sync", PAGE_XCOM_KEY) if has_plugin_pages() else None
    assert shown_links("links_and_notifiers", "sync") == {
        "Async actions in Voucherify": f"{voucherify.base_url}/v1/async-actions",
        "Report": "",
        **({"Voucherify sync": page} if page else {}),
    }


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (
            "s3://aws_default@crm/voucherify 2027/",
            "https://console.aws.amazon.com/s3/buckets/crm?prefix=voucherify%202027/",
        ),
        ("s3://crm/a/map_index=3", "https://console.aws.amazon.com/s3/buckets/crm?prefix=a/map_index%3D3/"),
        ("gs://crm/a/b", "https://console.cloud.google.com/storage/browser/crm/a/b"),
        ("https://files.example.com/reports", "https://files.example.com/reports"),
        ("/var/reports", ""),
        ("file:///var/reports", ""),
        ("abfs://crm@account.dfs.core.windows.net/a", ""),
    ],
)
def test_a_report_folder_is_linked_where_a_browser_can_show_it(uri: str, url: str) -> None:
    assert report_url(uri) == url


@pytest.mark.parametrize(
    ("base_url", "dashboard"),
    [
        ("https://api.voucherify.io", "https://app.voucherify.io"),
        ("https://us1.api.voucherify.io", "https://us1.app.voucherify.io"),
        ("https://dedicated.example.com", "https://dedicated.example.com/v1/async-actions"),
    ],
)
def test_the_dashboard_is_the_one_of_the_region(base_url: str, dashboard: str) -> None:
    assert dashboard_url(base_url) == dashboard
