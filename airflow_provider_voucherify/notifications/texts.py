"""What a summary says, fit for the places that messages go to: no error text in it can become markup there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import accumulate
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard
from urllib.parse import quote

from airflow_provider_voucherify.compat import NO_PAGES, Pages, redact
from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.sync.types.text import counted

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.results.export_summary import ExportSummary
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

SUMMARY_KEY = "voucherify_summary"
TEXT_KEY = "voucherify_text"
SLACK_KEY = "voucherify_slack_text"
HTML_KEY = "voucherify_html"

MOST_CHARACTERS = 300
"""A line of a message, and a cell of a mail's table, is cut here."""

MOST_CHARACTERS_FOR_SLACK = 4_000
"""What a message to Slack may have (docs.slack.dev, chat.postMessage, "Truncating content")."""

REASON_LINE = "- "
"""What the line of a reason begins with in a summary's text; a mail has these in a table."""

RUN_PAGE, LOG_PAGE = "Run in Airflow", "Log in Airflow"
"""What links are called."""

MOST_LINES_OF_MESSAGE = 9
"""What an alert has of what a task has failed with, so that there is room for what to do about it."""

NO_SUMMARY = "ended before it knew what became of its rows, see its log"

_OF_URLS = "/:?=&%+~@,;"


def ready_texts(summary: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a notifier's templates may use.

    :param summary: the dict that a task returned.
    :returns: ``voucherify_summary`` (the same dict), ``voucherify_text`` (a few lines of plain text),
        ``voucherify_slack_text`` (see ``slack_text``) and ``voucherify_html`` (see ``html_text``).
    """
    from airflow_provider_voucherify.sync.results.export_summary import ExportSummary
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

    kind: type[ExportSummary | SyncSummary] = ExportSummary if "export_id" in summary else SyncSummary
    model = kind.model_validate(summary)
    slack = slack_text(model.text(link=False)) + slack_links({RUN_PAGE: model.page_url, LOG_PAGE: model.log_url})
    return {SUMMARY_KEY: summary, TEXT_KEY: model.text(), SLACK_KEY: slack, HTML_KEY: html_text(model)}


def ready_texts_of_mapped(summaries: Mapping[int, Mapping[str, Any] | None]) -> dict[str, Any]:
    """
    Return the same for a mapped task: the texts of its instances, and a list of their summaries.

    If they have more lines than an alert may have, the texts have a line for each instance, those with failures first.

    :param summaries: the dict that each instance returned, by map index; None where it has returned none.
    """
    from airflow_provider_voucherify.sync.results.summary_text import MAX_LINES

    instances = sorted(summaries.items(), key=lambda instance: not _has_failures(instance[1]))
    texts, html = {}, []
    for index, summary in instances:
        nothing = {TEXT_KEY: NO_SUMMARY, HTML_KEY: f"<p>{NO_SUMMARY}</p>"}
        of_one = nothing if summary is None else ready_texts(summary)
        texts[index] = f"map_index={index}: {of_one[TEXT_KEY]}"
        html.append(f"<p>map_index={index}:</p>\n{of_one[HTML_KEY]}")
    text = "\n\n".join(texts[index] for index in summaries)
    if len(text.splitlines()) > MAX_LINES:
        lines = [one.partition("\n")[0] for one in texts.values()]
        text = "\n".join(_first_of(lines))
    return {
        SUMMARY_KEY: [summary for summary in summaries.values() if summary is not None],
        TEXT_KEY: text,
        SLACK_KEY: slack_text(text),
        HTML_KEY: "\n".join(_first_of(html)),
    }


def _has_failures(summary: Mapping[str, Any] | None) -> bool:
    return summary is None or bool(summary.get("failed") or summary.get("refused"))


def _first_of(lines: Sequence[str]) -> list[str]:
    from airflow_provider_voucherify.sync.results.summary_text import MAX_LINES

    if len(lines) <= MAX_LINES:
        return [*lines]
    return [*lines[: MAX_LINES - 1], f"… and {len(lines) - MAX_LINES + 1:,} more instances"]


class Failed(NamedTuple):
    """
    The error that a task has failed with, as in its log: secrets that Airflow knows are masked.

    :param kind: the error's class; None if only its text is known.
    :param advice: what to do about it, as the Test button says it; None if nothing is known.
    """

    kind: str | None
    message: str
    advice: str | None = None

    @classmethod
    def of(cls, error: BaseException | str | None) -> Failed | None:
        """Take apart what Airflow has of an error: itself or its text alone; None stands for none."""
        if error is None or isinstance(error, str):
            return None if error is None else cls(None, _masked(error))
        return cls.by(error)

    @classmethod
    def by(cls, error: BaseException) -> Failed:
        """Take apart the error by which a task has failed."""
        if isinstance(error, VoucherifyError):
            advice = None if error.advice is None else _masked(error.advice)
            return cls(type(error).__name__, _masked(error.happened), advice)
        return cls(type(error).__name__, _masked(str(error)))


def _masked(text: str) -> str:
    return str(redact(text))


def texts_without_summary(task_id: str, failed: Failed | None = None, pages: Pages = NO_PAGES) -> dict[str, Any]:
    """
    Return the same for a task that has no summary, as one that failed before it had any.

    :param failed: what it failed with, for the texts. The members of ``voucherify_summary`` are None.
    :param pages: of its try in Airflow.
    """
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.results.summary_text import MAX_LINES

    if failed is None:
        lines = [f"Voucherify task {task_id} has returned no summary"]
    else:
        lines = [": ".join(filter(None, (f"Voucherify task {task_id} failed", failed.kind)))]
        lines += _wrapped(failed.message, MOST_LINES_OF_MESSAGE)
        lines += _wrapped(f"What to do: {failed.advice}", MAX_LINES - 2 - len(lines)) if failed.advice else []
    links = [f"{name}: {url}" for name, url in (("Run", pages.sync), ("Log", pages.log)) if url]
    named = {RUN_PAGE: pages.sync, LOG_PAGE: pages.log}
    return {
        SUMMARY_KEY: dict.fromkeys(SyncSummary.model_fields),
        TEXT_KEY: "\n".join(lines + links),
        SLACK_KEY: slack_text("\n".join(lines)) + slack_links(named),
        HTML_KEY: "\n".join(filter(None, [*(f"<p>{html_cell(line)}</p>" for line in lines), html_links(named)])),
    }


def _wrapped(text: str, most: int) -> list[str]:
    """Return a text in lines of its own, with others if one is too long; ``most`` at most."""
    return [part for line in text.splitlines() for part in wrap(printable(line), MOST_CHARACTERS)][:most]


def slack_text(text: str) -> str:
    """
    Return a text as one code block of Slack's ``mrkdwn``.

    In a code block Slack styles nothing and links nothing. What could end the block or mention people is taken out: a
    backquote becomes an apostrophe, and ``&``, ``<`` and ``>`` become entities (docs.slack.dev, "Formatting message
    text"). Long lines are cut, and so is a text of more than ``MOST_CHARACTERS_FOR_SLACK``, after a whole line.
    """
    lines = [escape(_cut(printable(line)).replace("`", "'"), quote=False) for line in text.splitlines()]
    shown = sum(length <= MOST_CHARACTERS_FOR_SLACK for length in accumulate(len(line) + 1 for line in lines))
    more = [f"… and {counted(len(lines) - shown, 'more line')}"] if shown < len(lines) else []
    return "```\n" + "\n".join([*lines[:shown], *more]) + "\n```"


def slack_links(pages: Mapping[str, str | None]) -> str:
    """Return a line for each link in Slack's ``mrkdwn``, which no code block can have; none without a web address."""
    return "".join(
        f"\n<{escape(quote(url, safe=_OF_URLS))}|{name}>" for name, url in pages.items() if _is_web_address(url)
    )


def html_links(pages: Mapping[str, str | None]) -> str:
    """Return a paragraph for each link; none without a web address."""
    return "\n".join(
        f'<p><a href="{escape(quote(url, safe=_OF_URLS))}">{name}</a></p>'
        for name, url in pages.items()
        if _is_web_address(url)
    )


def _is_web_address(url: str | None) -> TypeGuard[str]:
    return url is not None and url.startswith(("https://", "http://"))


def html_text(summary: SyncSummary | ExportSummary) -> str:
    """
    Return a summary as the HTML of a mail: a sentence, a table of the reasons of failures, and links.

    Every text is escaped, so that none can add an element, an attribute or a link. Long texts are cut.
    """
    first, *lines = (line for line in summary.text(link=False).splitlines() if not line.startswith(REASON_LINE))
    html = [f"<p>{html_cell(first)}</p>"]
    if summary.reasons:
        html.append('<table border="1" cellspacing="0" cellpadding="4">')
        html.append(html_row("th", ("records", "outcome", "key", "message", "such as")))
        for one in summary.reasons:
            html.append(html_row("td", (f"{one.count:,}", one.outcome, one.key, one.message, ", ".join(one.ids))))
        html.append("</table>")
    html += [f"<p>{html_cell(line)}</p>" for line in lines]
    return "\n".join(filter(None, [*html, html_links({RUN_PAGE: summary.page_url, LOG_PAGE: summary.log_url})]))


def html_row(element: str, cells: Iterable[str | None]) -> str:
    """Return a row of a table: ``th`` or ``td`` elements with texts, each escaped and cut."""
    return "<tr>" + "".join(f"<{element}>{html_cell(cell or '')}</{element}>" for cell in cells) + "</tr>"


def html_cell(text: str) -> str:
    """Return a text for an element, escaped and cut."""
    return escape(_cut(printable(text)))


def printable(text: str) -> str:
    """Replace what cannot be seen (line breaks, direction marks, halves of surrogate pairs) by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
