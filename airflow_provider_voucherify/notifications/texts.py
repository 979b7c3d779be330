"""What a summary says, fit for the places that messages go to: no error text in it can become markup there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from itertools import accumulate
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

SUMMARY_KEY = "voucherify_summary"
TEXT_KEY = "voucherify_text"
SLACK_KEY = "voucherify_slack_text"
HTML_KEY = "voucherify_html"

MOST_CHARACTERS = 300
"""A line of a message, and a cell of a mail's table, is cut here. With ten failures that keeps a message below the
4,000 characters that Slack recommends (docs.slack.dev, chat.postMessage, "Truncating content")."""

MOST_CHARACTERS_FOR_SLACK = 4_000
"""What a message to Slack may have; only the texts of several mapped tasks are longer."""

FAILURE_LINE = "- "
"""What the lines of a summary's text that name a failure begin with; those are in the table of a mail."""


def ready_texts(summary: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a notifier's templates may use.

    :param summary: the dict that a task returned.
    :returns: ``voucherify_summary`` (the same dict), ``voucherify_text`` (a few lines of plain text),
        ``voucherify_slack_text`` (see ``slack_text``) and ``voucherify_html`` (see ``html_text``).
    """
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

    told = SyncSummary.model_validate(summary)
    text = told.text()
    return {SUMMARY_KEY: summary, TEXT_KEY: text, SLACK_KEY: slack_text(text), HTML_KEY: html_text(told)}


def ready_texts_of_mapped(summaries: Mapping[int, Mapping[str, Any] | None]) -> dict[str, Any]:
    """
    Return the same for a mapped task: the texts of all its instances, and a list of their summaries.

    :param summaries: the dict that each instance returned, by map index; None where it has returned none.
    """
    texts, html = [], []
    for index, summary in summaries.items():
        of_one = {TEXT_KEY: "no summary", HTML_KEY: "<p>no summary</p>"} if summary is None else ready_texts(summary)
        texts.append(f"map_index={index}: {of_one[TEXT_KEY]}")
        html.append(f"<p>map_index={index}:</p>\n{of_one[HTML_KEY]}")
    return {
        SUMMARY_KEY: [summary for summary in summaries.values() if summary is not None],
        TEXT_KEY: "\n\n".join(texts),
        SLACK_KEY: slack_text("\n\n".join(texts)),
        HTML_KEY: "\n".join(html),
    }


def texts_without_summary(task_id: str, why: str | None = None) -> dict[str, Any]:
    """
    Return the same for a task that has no summary, as one that failed before it had any.

    :param why: what it failed with; the texts tell it. The members of ``voucherify_summary`` are None.
    """
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

    if why is None:
        text = f"Voucherify task {task_id} has returned no summary"
    else:
        text = "\n".join(wrap(f"Voucherify task {task_id} failed: {why}", MOST_CHARACTERS))
    html = "\n".join(f"<p>{_cell(line)}</p>" for line in text.splitlines())
    nothing = dict.fromkeys(SyncSummary.model_fields)
    return {SUMMARY_KEY: nothing, TEXT_KEY: text, SLACK_KEY: slack_text(text), HTML_KEY: html}


def slack_text(text: str) -> str:
    """
    Return a text as one code block of Slack's ``mrkdwn``.

    In a code block Slack styles nothing and links nothing. What could end the block or mention people is taken out: a
    backquote becomes an apostrophe, and ``&``, ``<`` and ``>`` become entities (docs.slack.dev, "Formatting message
    text"). Long lines are cut, and so is a text of more than ``MOST_CHARACTERS_FOR_SLACK``, after a whole line.
    """
    lines = [_cut(_printable(line)).replace("`", "'") for line in text.splitlines()]
    shown = sum(length <= MOST_CHARACTERS_FOR_SLACK for length in accumulate(len(line) + 1 for line in lines))
    told = lines[:shown] if shown == len(lines) else [*lines[:shown], f"… and {len(lines) - shown} more lines"]
    return "```\n" + "\n".join(escape(line, quote=False) for line in told) + "\n```"


def html_text(summary: SyncSummary) -> str:
    """
    Return a summary as the HTML of a mail: a sentence, and a table of the failures that it names.

    Every text is escaped, so that none can add an element, an attribute or a link. Long texts are cut.
    """
    from airflow_provider_voucherify.sync.results.summary import name_of

    first, *lines = (line for line in summary.text().splitlines() if not line.startswith(FAILURE_LINE))
    html = [f"<p>{_cell(first)}</p>"]
    if summary.failures:
        html.append('<table border="1" cellspacing="0" cellpadding="4">')
        html.append(_row("th", ("outcome", "id", "message", "details", "key")))
        for failure in summary.failures:
            cells = (failure.outcome, name_of(failure), failure.message, failure.details, failure.key)
            html.append(_row("td", cells))
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
