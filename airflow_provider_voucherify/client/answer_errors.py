"""Which error an answer means, or its absence."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.rate_limits import RateLimit
from airflow_provider_voucherify.client.steps import Answer, NoAnswer
from airflow_provider_voucherify.models import errors

_KEY = re.compile(r"[a-z][a-z0-9_.]{0,99}")

_ERRORS_BY_STATUS: dict[int, type[errors.VoucherifyApiError]] = {
    401: errors.VoucherifyAuthenticationError,
    402: errors.VoucherifyPlanError,
    403: errors.VoucherifyPermissionError,
    404: errors.VoucherifyNotFoundError,
    408: errors.VoucherifyServerError,
    409: errors.VoucherifyConflictError,
    410: errors.VoucherifyNotFoundError,
    413: errors.VoucherifyPayloadTooLargeError,
    423: errors.VoucherifyConflictError,
}


def error_of(
    call: Call[Any], answer: Answer | NoAnswer, now: float, asked: str | None = None, *, quotes: bool = True
) -> errors.VoucherifyError:
    """
    Return the error that an answer means, or its absence.

    :param now: Unix epoch seconds.
    :param asked: the call with its host and connection, for the text.
    :param quotes: whether the error may have Voucherify's own words.
    """
    asked = asked or str(call)
    if isinstance(answer, NoAnswer):
        if not answer.sent:
            return errors.VoucherifyNotSentError(f"{asked} could not be sent: {answer.why}")
        doubt = "" if call.safe else "; Voucherify may have accepted it, so it was not sent again"
        return errors.VoucherifyNoAnswerError(f"{asked} was sent and not answered: {answer.why}{doubt}")
    body = _error_fields(answer.body)
    if not quotes:
        key = body.get("key")
        body = {"key": key if key and _KEY.fullmatch(key) else None, "request_id": body.get("request_id")}
    if answer.status == 429:
        limit = RateLimit.from_headers(answer.headers)
        cls = (
            errors.VoucherifyQuotaExhaustedError if limit.type == "api_calls_cycle" else errors.VoucherifyRateLimitError
        )
        return cls(str(call), 429, limit_type=limit.type, retry_at=limit.allowed_at(now), asked=asked, **body)
    if 300 <= answer.status < 400:
        return errors.VoucherifyUnexpectedAnswerError(
            f"{asked} was answered with a redirect ({answer.status}), which is not followed: credentials go to the "
            "connection's own host only"
        )
    kind = _ERRORS_BY_STATUS.get(
        answer.status,
        errors.VoucherifyServerError if answer.status >= 500 else errors.VoucherifyBadRequestError,
    )
    return kind(str(call), answer.status, asked=asked, **body)


def _error_fields(body: bytes) -> dict[str, Any]:
    """Read an error body of the API or its gateway; of any other body the beginning is quoted."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        return {"message": _one_line(body.decode("utf-8", "replace"), 200) or None}
    fields = {name: decoded.get(name) for name in ("key", "message", "details", "request_id")}
    return {name: _one_line(value, 500) if isinstance(value, str) else None for name, value in fields.items()}


def _one_line(text: str, limit: int) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
