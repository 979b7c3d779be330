"""What a summary says, fit for the places that messages go to: no error text in it can become markup there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.summary import SyncSummary

SUMMARY_KEY = "voucherify_summary"
TEXT_KEY = "voucherify_text"
SLACK_KEY = "voucherify_slack_text"
HTML_KEY = "voucherify_html"

MOST_CHARACTERS = 300
"""A line of a message, and a cell of a mail's table, is cut here. With ten failures that keeps a message below the
4,000 characters that Slack recommends (docs.slack.dev, chat.postMessage, "Truncating content")."""

FAILURE_LINE = "- "
"""What the lines of a summary's text that name a failure begin with; those are in the table of a mail."""


def ready_texts(summary: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a notifier's templates may use.

    :param summary: the dict that a task returned.
    :returns: ``voucherify_summary`` (the same dict), ``voucherify_text`` (a few lines of plain text),
        ``voucherify_slack_text`` (see ``slack_text``) and ``voucherify_html`` (see ``html_text``).
    """
    from airflow_provider_voucherify.sync.summary import SyncSummary

    told = SyncSummary.model_validate(summary)
    text = told.text()
    return {SUMMARY_KEY: summary, TEXT_KEY: text, SLACK_KEY: slack_text(text), HTML_KEY: html_text(told)}


def slack_text(text: str) -> str:
    """
    Return a text as one code block of Slack's ``mrkdwn``.

    In a code block Slack styles nothing and links nothing. What could end the block or mention people is taken out: a
    backquote becomes an apostrophe, and ``&``, ``<`` and ``>`` become entities (docs.slack.dev, "Formatting message
    text"). Long lines are cut.
    """
    lines = (_cut(_printable(line)).replace("`", "'") for line in text.splitlines())
    return "```\n" + "\n".join(escape(line, quote=False) for line in lines) + "\n```"


def html_text(summary: SyncSummary) -> str:
    """
    Return a summary as the HTML of a mail: a sentence, and a table of the failures that it names.

    Every text is escaped, so that none can add an element, an attribute or a link. Long texts are cut.
    """
    first, *lines = (line for line in summary.text().splitlines() if not line.startswith(FAILURE_LINE))
    html = [f"<p>{_cell(first)}</p>"]
    if summary.failures:
        html.append('<table border="1" cellspacing="0" cellpadding="4">')
        html.append(_row("th", ("outcome", "id", "message", "details", "key")))
        for failure in summary.failures:
            html.append(_row("td", (failure.outcome, failure.id, failure.message, failure.details, failure.key)))
        html.append("</table>")
    return "\n".join(html + [f"<p>{_cell(line)}</p>" for line in lines])


def _row(element: str, cells: Iterable[str | None]) -> str:
    return "<tr>" + "".join(f"<{element}>{_cell(cell or '')}</{element}>" for cell in cells) + "</tr>"


def _cell(text: str) -> str:
    return escape(_cut(_printable(text)))


def _printable(text: str) -> str:
    """Replace what cannot be seen (line breaks, direction marks, halves of surrogate pairs) by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
