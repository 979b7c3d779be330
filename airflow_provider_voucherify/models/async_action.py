"""
Voucherify's async action and the result of a bulk update or an import, read tolerantly.

The vendor's own examples contradict the schema, several shapes are live (``result`` has changed over the years)
and no field is marked required, so everything but the id may be absent and unknown fields are ignored.
Source: documentation/openapi/async-actions.json.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _id_or_none(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _word_or_none(value: object) -> str | None:
    """Words are shown in logs: one that could add a line there, or colours, is no word of the API's."""
    return value if isinstance(value, str) and value.isprintable() else None


def _count_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _flag_or_none(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


MAX_REASON = 2_000
"""Characters that are kept of what an action says of one record: texts are remembered, and copied for each record."""

_REASONS = ("key", "message", "details", "reason")


def _result_or_none(value: object) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    for name in ("errors", "failed"):
        for entry in _dicts(value.get(name)):
            entry |= {
                reason: text[: MAX_REASON - 1] + "…"
                for reason in _REASONS
                if isinstance(text := entry.get(reason), str) and len(text) > MAX_REASON
            }
    return value


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


_YEAR_5000 = 95_617_584_000.0


def epoch(moment: str | None) -> float | None:
    """Read a time of the API's (ISO-8601, UTC where it has no offset) as Unix epoch seconds; None where it is none."""
    try:
        read = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    seconds = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 <= seconds < _YEAR_5000 else None


def iso(seconds: float) -> str:
    """Write Unix epoch seconds as the API does, e.g. ``2022-09-05T11:40:17.098Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_Id = Annotated[str | None, BeforeValidator(_id_or_none)]
_Text = Annotated[str | None, BeforeValidator(_text_or_none)]
_Word = Annotated[str | None, BeforeValidator(_word_or_none)]
_Flag = Annotated[bool | None, BeforeValidator(_flag_or_none)]
_Count = Annotated[int | None, BeforeValidator(_count_or_none)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class AsyncAction(_Answer):
    """
    An async action: a job in Voucherify's queue.

    :param status: ``ENQUEUED``, ``IN_PROGRESS``, ``DONE`` or ``FAILED``; another word is taken as "not finished".
    :param operation_status: ``SUCCESS``, ``FAILED`` or ``UNKNOWN``; absent in older actions.
    :param progress: percent, 0 to 100.
    :param processing_time: milliseconds.
    :param result: the raw result, with reasons of failure shortened to 2,000 characters; its form depends on ``type``.
        Absent in lists and before the end.
    """

    id: str = Field(min_length=1)
    type: _Word = None
    status: _Word = None
    operation_status: _Word = None
    progress: _Count = None
    processing_time: _Count = None
    created_at: _Text = None
    updated_at: _Text = None
    request_id: _Text = None
    result: Annotated[dict[str, Any] | None, BeforeValidator(_result_or_none)] = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen. ``DONE`` is not success: see ``sync.settlement``."""
        return self.status in ("DONE", "FAILED")


class AsyncActionList(_Answer):
    """
    One page of ``GET /v1/async-actions``, newest first; its actions have no ``result``.

    :param has_more: whether older ones follow; the vendor's own example answer lacks it.
    """

    async_actions: list[AsyncAction]
    has_more: _Flag = None

    @property
    def is_last(self) -> bool:
        """Whether nothing older follows; a page that does not tell is the last one only if it is empty."""
        return not self.async_actions or self.has_more is False


class RecordError(_Answer):
    """
    Why one record failed, as the result's ``errors[]`` says it.

    :param source_id: the failed record's id (customers, products); results of metadata updates may name none.
    :param code: the failed record's code (vouchers).
    """

    key: _Text = None
    message: _Text = None
    details: _Text = None
    source_id: _Id = None
    code: _Id = None

    @property
    def record_id(self) -> str | None:
        """The failed record's ``source_id`` or ``code``, None where the API names none."""
        return self.source_id if self.source_id is not None else self.code


class LegacyRow(_Answer):
    """One entry of the ``results[]`` that actions had before August 2024."""

    source_id: _Id = None
    code: _Id = None
    found: _Flag = None
    updated: _Flag = None

    @property
    def record_id(self) -> str | None:
        """The record's ``source_id`` or ``code``."""
        return self.source_id if self.source_id is not None else self.code


class ImportFailure(_Answer):
    """
    Why one row of an import failed.

    :param row: its place in the file, from 1, the header not counted.
    :param source_id: its id; imports of SKUs name none, and that of a row without one is empty.
    """

    row: _Count = None
    source_id: _Id = None
    code: _Id = None
    reason: _Text = None

    @property
    def record_id(self) -> str | None:
        """The row's ``source_id`` or ``code``, None where there is none."""
        return self.source_id or self.code or None


class BulkResult(_Answer):
    """
    The ``result`` of a bulk or metadata update or an import, in any of its documented shapes.

    :param done_count: records that Voucherify counts as processed; None where it does not tell.
    :param failed_count: records that it counts as failed; None where it does not tell.
    :param reports: URLs of report files, valid until ``reports_available_till``.
    :param errors: one entry per failed record.
    :param results: the legacy shape's rows.
    :param failed: one entry per failed row of an import.
    """

    done_count: _Count = None
    failed_count: _Count = None
    reports: Annotated[list[str], BeforeValidator(_texts)] = []
    reports_available_till: _Text = None
    errors: Annotated[list[RecordError], BeforeValidator(_dicts)] = []
    results: Annotated[list[LegacyRow], BeforeValidator(_dicts)] = []
    failed: Annotated[list[ImportFailure], BeforeValidator(_dicts)] = []


class OAuthToken(_Answer):
    """
    The answer of ``POST /v1/oauth/token``.

    :param expires_in: lifetime in seconds (the vendor's is 900).
    :param expires_at: end of life, Unix epoch seconds, by the vendor's clock.
    """

    access_token: str = Field(pattern=r"^[!-~]+$", repr=False)
    token_type: str = "Bearer"
    expires_in: _Count = None
    expires_at: _Count = None
    scope: _Text = None
