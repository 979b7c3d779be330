"""
Tell Slack and a mailbox of the vouchers that were not updated, and Slack of every night's sync.

``on_failed_records_callback`` is called when rows were refused or failed, whether the task fails or not. Here it calls
Airflow's own notifiers. ``voucherify_slack_text`` and ``voucherify_html`` say the same as ``voucherify_text``, but no
id or error text in them can mention people, link or style in Slack, or add HTML to the mail.

``VoucherifySummaryNotifier`` brings these texts to the callbacks that every Airflow task has.

Connections: ``voucherify_default``, ``warehouse``, ``slack_webhook`` and ``smtp_default``. Variable:
``voucherify_reports``, a local folder or an object-storage URI.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_provider_voucherify.notifications.summary import VoucherifySummaryNotifier
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

slack_of_failures = SlackWebhookNotifier(
    slack_webhook_conn_id="slack_webhook",
    text=":rotating_light: {{ dag.dag_id }}, {{ run_id }}\n{{ voucherify_slack_text }}",
)
mail_of_failures = SmtpNotifier(
    from_email="airflow@example.com",
    to="crm-team@example.com",
    subject="{{ dag.dag_id }}: {{ voucherify_summary.failed + voucherify_summary.refused }} vouchers were not updated",
    html_content="{{ voucherify_html }}<p>Run {{ run_id | e }} of {{ dag.dag_id }}</p>",
)
slack_of_every_night = VoucherifySummaryNotifier(
    SlackWebhookNotifier(slack_webhook_conn_id="slack_webhook", text="{{ voucherify_slack_text }}")
)

with DAG(
    "alert_on_failures",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyBulkUpdateOperator(
        task_id="update_vouchers",
        resource="vouchers",
        sql="SELECT code, channel FROM vouchers",
        sql_conn_id="warehouse",
        fail_if={"failed_ratio": 0.5},
        report_path="{{ var.value.voucherify_reports }}/vouchers/{{ run_id }}",
        on_failed_records_callback=[slack_of_failures, mail_of_failures],
        on_success_callback=slack_of_every_night,
        deferrable=True,
    )
