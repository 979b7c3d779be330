"""
What the probe finds out of the local Voucherify with its defaults: ``make probe-page``.

    python -m harness.probe_page    writes the table into docs/probe.md
"""

from __future__ import annotations

import re

from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.probe.counting import Counter, CountingClient
from airflow_provider_voucherify.probe.questions import QUESTIONS
from airflow_provider_voucherify.probe.rounds import new_rounds
from airflow_provider_voucherify.probe.run import Pace, Run
from airflow_provider_voucherify.probe.writing import table
from harness import ROOT

PAGE = ROOT / "docs" / "probe.md"
ACTION_SECONDS = 0.2
"""Not the stand-in's default of 0: actions that end at once show nothing of the queue."""

_TABLE = re.compile(r"^\| question \|.*?\n(?!\|)", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"(127\.0\.0\.1):\d+")


def written(page: str) -> str:
    """Return the page with a table of what the probe finds out now."""
    return _TABLE.sub(lambda _: default_table() + "\n", page, count=1)


def default_table() -> str:
    """Return the table that the probe makes of the local Voucherify with its defaults, without the port."""
    with LocalVoucherify(action_seconds=ACTION_SECONDS) as server:
        options = server.options
        settings = ConnectionSettings.build(
            application_id=options.app_id, secret_key=options.secret_key, host=server.base_url
        )
        with CountingClient(settings, Counter(allowed=80), patience=0.0) as client:
            run = Run(client, new_rounds(), Pace(settle=0.0, pauses=(0.1, 0.5, 1.0, 2.0)))
            run.first_call()
            run.ask()
            run.remove()
    return _PORT.sub(r"\1", table([(question, question.answer(run.facts)) for question in QUESTIONS]))


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
