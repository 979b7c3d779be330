"""Signs of a production project: what can be known without its name, which Voucherify does not tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.probe.facts import Answered, Limits, Missing

MAX_SANDBOX_CALLS = 100
"""Calls that a sandbox may make in an hour (documentation/guides/limits.mdx); others have 100 or more a minute."""

MAX_SANDBOX_CUSTOMERS = 1_000
"""Ours: a project for tests is not expected to have more."""

_WORDS = {"prod", "production", "prd", "live"}


def signs_in_name(settings: ConnectionSettings) -> Iterator[str]:
    """Give the words of the connection's id and host that production is called by; this takes no call."""
    for what, name in (("id", settings.conn_id or ""), ("host", settings.base_url)):
        for word in sorted(_WORDS.intersection(re.split(r"[^a-z0-9]+", name.lower()))):
            yield f"the connection's {what} says {word!r}"


def signs_in_answer(answer: Answered | Missing, limits: list[Limits]) -> Iterator[str]:
    """
    Give what a list of customers shows of the project.

    :param limits: the rate-limit headers of that answer.
    """
    total = answer.member.get("total") if isinstance(answer, Answered) else None
    if isinstance(total, int) and total > MAX_SANDBOX_CUSTOMERS:
        yield f"the project has {total:,} customers"
    calls = max((one.headers.limit or 0 for one in limits), default=0)
    if calls > MAX_SANDBOX_CALLS:
        yield f"its rate limit is {calls:,} calls, and a sandbox's {MAX_SANDBOX_CALLS}"
