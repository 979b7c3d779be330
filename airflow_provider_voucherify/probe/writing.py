"""The answers as a table for people, and as a file to be sent to the provider's authors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_voucherify import __version__
from airflow_provider_voucherify.client.redaction import redact
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.models.endpoints import REGIONS
from airflow_provider_voucherify.probe.answers import Observation, Question
from airflow_provider_voucherify.probe.facts import Answered, Facts
from airflow_provider_voucherify.probe.rounds import Own
from airflow_provider_voucherify.probe.run import host_of

Answers = Sequence[tuple[Question, Observation]]

_KEPT = (
    *("status", "operation_status", "type", "progress", "processing_time", "created_at", "updated_at", "result"),
    *("done_count", "failed_count", "reports", "reports_available_till", "errors", "results", "source_id", "code"),
    *("found", "updated", "key", "message", "details", "statusCode", "error", "metadata", "total", "has_more"),
    *("files", "kind", "host", "without_credentials", "with_credentials", "text"),
)
"""Members of answers that are written; others may name people of the project, or its records."""


def table(answers: Answers) -> str:
    """Return the answers as a Markdown table: question, observation, evidence, line of ``docs/limits.md``."""
    rows = [("question", "observation", "evidence", "line of limits.md"), ("---",) * 4]
    for question, seen in answers:
        meaning = question.readings.get(seen.reading)
        observation = f"`{seen.reading}`: {meaning}" if meaning else f"`{seen.reading}`"
        rows.append((question.name, observation, seen.evidence, f"{question.section}: {question.line} …"))
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def observed(answers: Answers, facts: Facts, settings: ConnectionSettings, *, calls: int, left: Iterable[Own]) -> str:
    """
    Return the content of ``observed.json``: the answers, and what they rest on, without credentials.

    :param calls: how many were made.
    :param left: records that could not be removed.
    """
    content = {
        "made_by": f"airflow-provider-voucherify {__version__}",
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "region": next((name for name, url in REGIONS.items() if url == settings.base_url), "a host of its own"),
        "auth_method": settings.extra.auth_method,
        "calls": calls,
        "left": [f"{own.resource} {own.id}" for own in left],
        "answers": [
            {
                "question": question.name,
                "asked": question.asked,
                "reading": seen.reading,
                "meaning": question.readings.get(seen.reading),
                "evidence": seen.evidence,
                "answers": f"{question.section}: {question.line}",
            }
            for question, seen in answers
        ],
        "facts": {name: _fact(fact) for name, fact in facts.items() if name != "the first call"},
        "limits": [f"{one.kind}: {one.headers.remaining} of {one.headers.limit} left" for one in facts.limits],
    }
    return without_secrets(json.dumps(content, indent=1, ensure_ascii=False), settings) + "\n"


def without_secrets(text: str, settings: ConnectionSettings) -> str:
    """Return a text without the connection's credentials, in whatever form."""
    credentials = (settings.secret_key.get_secret_value(), settings.application_id)
    return redact(text.encode(), credentials).decode()


def _fact(fact: object) -> dict[str, Any]:
    if isinstance(fact, Answered):
        return {"status": fact.status, "body": _kept(fact.body)}
    return {"missing": str(fact)}


def _kept(value: Any) -> Any:
    """Return the members of a body that may be shown; of lists of records their length alone, of URLs the host."""
    if isinstance(value, Mapping):
        lists = {name: len(value[name]) for name in ("customers", "products") if isinstance(value.get(name), list)}
        return {
            name: member if name == "metadata" else _kept(member) for name, member in value.items() if name in _KEPT
        } | lists
    if isinstance(value, list):
        return [_kept(member) for member in value]
    if isinstance(value, str) and "://" in value and " " not in value:
        return f"{value.partition('://')[0]}://{host_of(value)}/…"
    return value
