"""A run as a page that needs nothing but itself: for a mail, an archive, or an Airflow that has no page of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from inspect import getdoc

from airflow_provider_voucherify.notifications.texts import LOG_PAGE, RUN_PAGE, html_links, html_row, printable
from airflow_provider_voucherify.sync.comparison.differences import HEADS, rows_of
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.results.summary_text import read_back_line, what_now

FILE_NAME = "report.html"

COLOURS = {
    "updated": "#2f7ed8",
    "created": "#1a9850",
    "written": "#2f7ed8",
    "unchanged": "#9aa5b1",
    "not_updated": "#b7a57a",
    "failed": "#d73027",
    "refused": "#f46d43",
    "superseded": "#c9b6d9",
    "not_reported": "#fdae61",
    "queued": "#d0d7de",
    "verified": "#1b7f5c",
    "differing": "#e0a526",
    "missing": "#a8431e",
}
"""Of the parts of a summary, in their order."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; vertical-align: top; }
tr { border-bottom: 1px solid var(--line); } td { overflow-wrap: anywhere; } td.number { text-align: right; }
svg { width: 100%; height: 28px; margin: 1rem 0 .5rem; } .legend { list-style: none; padding: 0; margin: 0; }
.legend li { display: inline-block; margin-right: 1.2rem; }
.legend svg { width: .8em; height: .8em; margin: 0 .3em 0 0; }
.bad { color: #d73027; font-weight: 600; } .good { color: #1a9850; font-weight: 600; }
"""

_MOST_CHARACTERS = 4_000

_NARROWEST = 0.006
"""Part of the bar that a few failures among a million rows have: they must not be overlooked."""

_NOT_NUMBERS = frozenset(
    {
        "resource",
        "warning",
        "reasons",
        "failures",
        "preview",
        "async_action_ids",
        "newly_failed_ids",
        "log_url",
        "page_url",
        "report_uri",
    }
)
"""What the page shows in a part of its own."""


def report_page(summary: SyncSummary, about: Mapping[str, str], exceeded: Sequence[str]) -> str:
    """
    Return a run as a whole HTML page, with its style and its picture in it, and without scripts.

    Every text is escaped, so that none can add an element, an attribute or a link. Long texts are cut.

    :param about: what names the run, in the order in which it is shown.
    :param exceeded: the limits by which the task fails, a sentence each.
    """
    title = _text(f"Voucherify {summary.resource or 'update'}: {', '.join(about.values())}")
    style = '<meta name="viewport" content="width=device-width, initial-scale=1" />\n<style>' + _STYLE + "</style>"
    head = f'<head><meta charset="utf-8" />\n<title>{title}</title>\n{style}\n</head>'
    body = "\n".join(_parts(summary, about, exceeded))
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n{body}\n</body>\n</html>\n'


def _parts(summary: SyncSummary, about: Mapping[str, str], exceeded: Sequence[str]) -> Iterator[str]:
    yield f"<h1>{_text(summary.text(None, link=False).splitlines()[0])}</h1>"
    yield f"<p>{_state(summary, exceeded)} {_text(' · '.join(about.values()))}</p>"
    yield from _bar(summary)
    if (line := read_back_line(summary)) is not None:
        yield f"<p>{_text(line)}</p>"
    yield from _list("What made the task fail", exceeded)
    yield from _list("Warnings", (summary.warning or "").split("\n") if summary.warning else [])
    yield from _list("What now", what_now(summary))
    if summary.reasons:
        yield "<h2>Why rows failed</h2>\n<table>"
        yield html_row("th", ("records", "outcome", "key", "message", "such as"))
        for one in summary.reasons:
            yield html_row("td", (f"{one.count:,}", one.outcome, one.key, one.message, ", ".join(one.ids)))
        yield "</table>"
    if summary.preview:
        yield "<h2>What differs</h2>\n<table>"
        yield html_row("th", HEADS)
        yield from (html_row("td", row) for row in rows_of(summary.preview))
        yield "</table>"
    yield "<h2>Numbers</h2>\n<table>"
    for name, number, meaning in numbers(summary):
        cells = f'<td class="number">{_text(number)}</td><td>{_text(meaning)}</td>'
        yield f"<tr><th>{_text(name)}</th>{cells}</tr>"
    yield "</table>"
    yield from _list("Async actions", summary.async_action_ids)
    yield from _list("Report folder", [summary.report_uri] if summary.report_uri else [])
    yield html_links({RUN_PAGE: summary.page_url, LOG_PAGE: summary.log_url})


def _state(summary: SyncSummary, exceeded: Sequence[str]) -> str:
    if summary.dry_run:
        return "dry run"
    if exceeded:
        return '<span class="bad">failed</span>'
    is_open = summary.succeeded is None and summary.async_action_ids
    return "queued, the outcome was not waited for" if is_open else '<span class="good">success</span>'


def _bar(summary: SyncSummary) -> Iterator[str]:
    """Yield the outcomes of all rows as a bar and its legend."""
    counts = summary.parts()
    if not (rows := sum(counts.values())):
        return
    texts = {name: f"{count:,} {name.replace('_', ' ')} ({_share(count / rows)})" for name, count in counts.items()}
    widths = {name: max(_NARROWEST, count / rows) for name, count in counts.items()}
    yield f'<svg viewBox="0 0 1000 28" preserveAspectRatio="none" role="img" aria-label="{", ".join(texts.values())}">'
    begin = 0.0
    for name in counts:
        width = 1000 * widths[name] / sum(widths.values())
        place = f'x="{begin:.2f}" width="{width:.2f}" height="28" fill="{COLOURS[name]}"'
        yield f"<rect {place}><title>{texts[name]}</title></rect>"
        begin += width
    yield '</svg>\n<ul class="legend">'
    for name, text in texts.items():
        dot = f'<svg viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1" fill="{COLOURS[name]}" /></svg>'
        yield f"<li>{dot}{text}</li>"
    yield "</ul>"


def _share(part: float) -> str:
    return f"{part:.1%}" if part >= 0.001 else "less than 0.1%"


def _list(title: str, texts: Iterable[str]) -> Iterator[str]:
    if items := [f"<li>{_text(text)}</li>" for text in texts]:
        yield "\n".join([f"<h2>{title}</h2>", "<ul>", *items, "</ul>"])


def _text(text: str) -> str:
    return escape(printable(text)[:_MOST_CHARACTERS])


def numbers(summary: SyncSummary) -> Iterator[tuple[str, str, str]]:
    """Yield the numbers of a summary that are known: name, number and meaning."""
    for name, meaning in _meanings():
        if name not in _NOT_NUMBERS and (shown := _shown(getattr(summary, name))) is not None:
            yield name, shown, meaning


def _meanings() -> Iterator[tuple[str, str]]:
    """Yield the members of a summary and what they mean, as its documentation says."""
    for part in re.split(r"^:param ", getdoc(SyncSummary) or "", flags=re.MULTILINE)[1:]:
        name, _, meaning = part.partition(":")
        yield name, " ".join(meaning.replace("``", "").split())


def _shown(value: object) -> str | None:
    """Return a number as text; None for one that is unknown, and for what is empty."""
    if value is None or isinstance(value, bool) or value in ({}, []):
        return None
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int | float) else str(value)
