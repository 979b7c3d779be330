"""Questions about reports, the queue, rate limits, and what else a project does with requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import msgspec

from airflow_provider_voucherify.models.times import epoch
from airflow_provider_voucherify.probe.answers import Observation, Question, failed, outcome, refusal
from airflow_provider_voucherify.probe.facts import Answered, Facts, NoReading
from airflow_provider_voucherify.sync.types.text import counted

_REPORT, _WRONG, _RATES = "The report", "Requests that are wrong", "Rate limits"
_DAY = 86_400.0
_SAME_TIME = 0.01
"""Seconds by which times of two actions may differ that are meant to be the same; they are given in milliseconds."""


def _report(facts: Facts) -> dict[str, Any]:
    report = dict(facts.answered("report").member)
    if not report["files"]:
        raise NoReading("the result has no report", asked=True)
    return report


def _report_text(facts: Facts) -> str:
    report = _report(facts)
    if "text" not in report:
        raise NoReading("the report could not be fetched", asked=True)
    return str(report["text"]).lstrip("\ufeff")


def _report_host(facts: Facts) -> Observation:
    if not facts.answered("report").member["files"]:
        return Observation("no_report", "the result has no report")
    report = _report(facts)
    return Observation(report["kind"], f"{report['host']}, {counted(report['files'], 'file')}")


def _report_credentials(facts: Facts) -> Observation:
    report = _report(facts)
    if "without_credentials" not in report:
        return Observation("not_needed", "it was fetched without")
    without = f"without: {_failure(report['without_credentials'])}"
    if "with_credentials" not in report:
        return Observation("needed", without)
    raise NoReading(f"{without}; with: {_failure(report['with_credentials'])}", asked=True)


def _failure(text: str) -> str:
    status = re.search(r"status \d+", text)
    return status[0] if status else text


def _report_format(facts: Facts) -> Observation:
    text = _report_text(facts)
    first = text.partition("\n")[0].strip()
    kinds = {"[": "json", "{": "json_lines"}
    if (kind := kinds.get(first[:1])) is not None:
        return Observation(kind, f"it begins with {first[:1]}")
    delimiters = {",": "csv", ";": "semicolons", "\t": "tabs"}
    kind = next((kind for mark, kind in delimiters.items() if mark in first), "no delimiter")
    return Observation(kind, f"first line {first!r}")


def _report_columns(facts: Facts) -> Observation:
    names = _columns(_report_text(facts))
    evidence = ", ".join(names)
    if {"source_id", "found", "updated"} <= set(names):
        return Observation("names", evidence)
    plain = {name.strip().lower().replace(" ", "_").replace("-", "_") for name in names}
    return Observation("titles" if {"source_id", "found", "updated"} <= plain else "neither", evidence)


def _columns(text: str) -> list[str]:
    first = text.partition("\n")[0].strip()
    if first[:1] not in ("[", "{"):
        return [name.strip('" ') for name in re.split(r"[,;\t]", first)]
    try:
        record = msgspec.json.decode(first.removeprefix("[").partition("}")[0] + "}")
    except msgspec.DecodeError:
        record = None
    return list(record) if isinstance(record, dict) else []


def _report_expiry(facts: Facts) -> Observation:
    _report(facts)
    till = epoch(facts.result("customers/bulk").get("reports_available_till"))
    ended = epoch(facts.action("customers/bulk").get("updated_at"))
    if till is None:
        return Observation("not_told", "no reports_available_till")
    if ended is None:
        return Observation("told", "")
    return Observation("told", f"{counted(round((till - ended) / _DAY), 'day')} after the action ended")


def _queue(facts: Facts) -> Observation:
    waits = list(_waits(facts))
    if not waits:
        raise NoReading("every action had ended before the next one was queued", asked=True)
    same = [waited for is_same, waited in waits if is_same]
    across = [waited for is_same, waited in waits if not is_same]
    if not all(same):
        kind = "none"
    elif same and across:
        kind = "project" if all(across) else "type"
    else:
        raise NoReading("too few actions were queued behind others", asked=True)
    evidence = {
        "project": "whatever was queued behind another action began after that had ended",
        "type": "what was queued behind an action of its type began after that had ended; of another type not always",
        "none": "actions began before earlier ones had ended, of the same type too",
    }
    return Observation(kind, evidence[kind])


def _waits(facts: Facts) -> Iterator[tuple[bool, bool]]:
    """
    Give, for each action that was queued behind another, whether it is of the same type and whether it waited.

    An action without ``processing_time`` waited, as far as one can tell, if it did not end first.
    """
    actions = [
        fact.member for name, fact in facts.items() if name.startswith("action of ") and isinstance(fact, Answered)
    ]
    times = [
        (created, ended, str(one.get("type")), one.get("processing_time"))
        for one in actions
        if (created := epoch(one.get("created_at"))) is not None and (ended := epoch(one.get("updated_at"))) is not None
    ]
    for earlier, later in combinations(sorted(times, key=lambda one: one[:2]), 2):
        if later[0] + _SAME_TIME < earlier[1]:
            milliseconds = later[3] if isinstance(later[3], int) else 0
            began = later[1] - milliseconds / 1000
            yield earlier[2] == later[2], began >= earlier[1] - _SAME_TIME


def _last_page(resource: str, documented: int) -> Question:
    def observe(facts: Facts) -> Observation:
        at, beyond = (facts.answered(f"{resource}, page {page}") for page in (documented, documented + 1))
        evidence = f"page {documented}: {at}; page {documented + 1}: {beyond}"
        if at.refused:
            return Observation("lower" if beyond.refused else "neither", evidence)
        return Observation("as_documented" if beyond.refused else "higher", evidence)

    return Question(
        f"Is {documented} the last page of {resource}?",
        f"pages {documented} and {documented + 1} are asked for",
        {"as_documented": "yes", "higher": "later pages are answered", "lower": "an earlier one is"},
        observe,
        "Limits that are documented",
        "a list's pages end",
    )


def _compressed(facts: Facts) -> Observation:
    if (answer := facts.answered("compressed")).refused:
        return Observation("refused", refusal(answer))
    read = facts.answered("record after compressed")
    arrived = not read.refused and not failed(facts, "compressed")
    return Observation("accepted" if arrived else "misread", outcome(facts, "compressed"))


def _bulk_budget(facts: Facts) -> Observation:
    ordinary, bulk = _limits(facts, "ordinary"), _limits(facts, "bulk")
    if not any(one.kind == "bulk" for one in facts.limits):
        raise NoReading("no bulk call was answered", asked=False)
    evidence = f"limits of ordinary calls {_numbers(ordinary)}, of bulk calls {_numbers(bulk)}"
    if not ordinary:
        return Observation("bulk calls alone have headers" if bulk else "no_headers", evidence)
    if not bulk:
        return Observation("bulk_without_headers", evidence)
    if ordinary == bulk and _is_one_counter(facts):
        return Observation("ordinary", evidence)
    both = list(_counted_with_ordinary(facts))
    if not both:
        raise NoReading(f"no two ordinary answers with bulk calls between them; {evidence}", asked=True)
    return Observation("both" if 2 * sum(both) > len(both) else "bulk_alone", evidence)


def _limits(facts: Facts, kind: str) -> set[int]:
    return {one.headers.limit for one in facts.limits if one.kind == kind and one.headers.limit is not None}


def _numbers(limits: set[int]) -> str:
    return ", ".join(map(str, sorted(limits))) or "none"


def _is_one_counter(facts: Facts) -> bool:
    """Say whether what is left falls by one from each answer to the next of the other kind, more often than not."""
    counted = [(one.kind, one.headers.remaining) for one in facts.limits if one.headers.remaining is not None]
    steps = [
        earlier - later
        for (kind, earlier), (other, later) in pairwise(counted)
        if kind != other and earlier is not None and later is not None
    ]
    return 2 * steps.count(1) > len(steps)


def _counted_with_ordinary(facts: Facts) -> Iterator[bool]:
    """Give, for ordinary answers with bulk calls between them, whether these count as ordinary calls too."""
    left, between = None, 0
    for one in facts.limits:
        if one.kind != "ordinary":
            between += 1
        elif one.headers.remaining is not None:
            if left is not None and between and (used := left - one.headers.remaining) > 0:
                yield used > 1
            left, between = one.headers.remaining, 0


def _csv_budget(facts: Facts) -> Observation:
    facts.answered("csv import")
    own = _bulk_budget(facts)
    if own.reading not in ("both", "bulk_alone"):
        raise NoReading("bulk calls show no limit of their own", asked=True)
    limits = _limits(facts, "csv")
    evidence = f"limits of CSV imports {_numbers(limits)}; {own.evidence}"
    return Observation("bulk" if limits <= _limits(facts, "bulk") else "ordinary", evidence)


def _retry_header(facts: Facts) -> Observation:
    headers = [one.headers for one in facts.limits if one.headers.remaining]
    waits = [h.retry_at - h.date for h in headers if h.retry_at is not None and h.date is not None]
    if not headers:
        raise NoReading("no answer with calls left had rate-limit headers", asked=True)
    if not waits:
        return Observation("absent", "no X-Rate-Limit-Retry while calls are left")
    longest = max(waits)
    return Observation("period_end" if longest > 2 else "next_call", f"at most {longest:.0f} s after the answer")


def _other_region(facts: Facts) -> Observation:
    answer = facts.any_answer("other region")
    details = f"{answer.member.get('message')} {answer.member.get('details')}"
    named = answer.status == 403 and "://" in details
    reading = "403_with_url" if named else str(answer.status) if answer.refused else "served"
    return Observation(reading, refusal(answer))


def _missing_scope(facts: Facts) -> Observation:
    answer = facts.any_answer("missing scope")
    return Observation(str(answer.status) if answer.refused else "served", refusal(answer))


def _asked_of_report(name: str, readings: dict[str, str], observe: Any, line: str) -> Question:
    return Question(name, "the report of a bulk update of one customer", readings, observe, _REPORT, line)


QUESTIONS = (
    _asked_of_report(
        "Where is the report?",
        {
            "api_host": "on the host of the API",
            "download_host": "on the vendor's download host",
            "other_host": "elsewhere",
            "no_report": "there is none",
        },
        _report_host,
        "where it is, and whether it needs credentials",
    ),
    _asked_of_report(
        "Does the report need credentials?",
        {"not_needed": "no", "needed": "yes"},
        _report_credentials,
        "where it is, and whether it needs credentials",
    ),
    _asked_of_report(
        "What is the report's format?",
        {
            "csv": "CSV with commas",
            "semicolons": "CSV with semicolons",
            "tabs": "CSV with tabs",
            "json": "a JSON array",
            "json_lines": "JSON lines",
        },
        _report_format,
        "its format",
    ),
    _asked_of_report(
        "What are the report's columns called?",
        {"names": "source_id, found, updated", "titles": "the same as titles, such as Source ID"},
        _report_columns,
        "what its key column is called",
    ),
    _asked_of_report(
        "Until when is the report there?",
        {"told": "the result says so", "not_told": "it does not"},
        _report_expiry,
        "for how long it is there",
    ),
    Question(
        "Which actions wait for earlier ones?",
        "several bulk calls are made at once; times of their actions are compared",
        {"project": "all of the project", "type": "those of the same type", "none": "none"},
        _queue,
        "The queue",
        'whether "first in, first out" holds',
    ),
    _last_page("customers", 99),
    _last_page("products", 100),
    Question(
        "Are compressed bodies accepted?",
        "`customers/bulk/async` gets a body compressed by gzip",
        {
            "accepted": "yes",
            "refused": "the request is an error",
            "misread": "they are queued and the record is not there",
        },
        _compressed,
        _WRONG,
        "whether compressed bodies are accepted",
    ),
    Question(
        "Which limit do bulk calls draw from?",
        "the rate-limit headers of all answers are compared",
        {
            "both": "one of their own, and that of ordinary calls",
            "bulk_alone": "one of their own",
            "ordinary": "that of ordinary calls",
            "bulk_without_headers": "none that their answers tell",
            "no_headers": "no answer tells any",
        },
        _bulk_budget,
        _RATES,
        "whether a bulk call is an ordinary call too",
    ),
    Question(
        "Is a CSV import a bulk call?",
        "a CSV file with one customer is imported",
        {"bulk": "yes", "ordinary": "no"},
        _csv_budget,
        _RATES,
        "which calls are bulk calls",
    ),
    Question(
        "What does `X-Rate-Limit-Retry` tell while calls are left?",
        "it is compared with the time of each answer",
        {"next_call": "that the next call may be made now", "period_end": "the end of the period", "absent": "nothing"},
        _retry_header,
        _RATES,
        "what `X-Rate-Limit-Retry` tells",
    ),
    Question(
        "What is the answer to the wrong region?",
        "the same credentials are sent to another region of the vendor's",
        {
            "403_with_url": "403 with the right URL",
            "403": "403 without it",
            "401": "",
            "404": "",
            "served": "it is served",
        },
        _other_region,
        "Requests that are wrong",
        "what a call in the wrong region is answered with",
    ),
    Question(
        "What is the answer if a token lacks a scope?",
        "with OAuth, customers are asked for with a token for async actions",
        {"403": "", "401": "", "served": "it is served"},
        _missing_scope,
        "OAuth",
        "whether a missing scope is a 401 or a 403",
    ),
)
