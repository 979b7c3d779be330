"""
The errors of this provider, to be named in ``except`` or in Airflow's ``ExceptionRetryPolicy``.

``models.errors`` has the tree and says what each means. ``VoucherifyRecordsFailedError``,
``VoucherifyNewerRunError``, ``VoucherifyRowsWithoutIdsError`` and ``VoucherifyTooFewRowsError`` are added here, since
they are Airflow's business: they fail the task without a retry.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_voucherify.compat import AirflowFailException
from airflow_provider_voucherify.models.errors import (
    VoucherifyActionFailedError,
    VoucherifyApiError,
    VoucherifyAuthenticationError,
    VoucherifyBadRequestError,
    VoucherifyCompletionTimeoutError,
    VoucherifyConfigurationError,
    VoucherifyConflictError,
    VoucherifyError,
    VoucherifyExportError,
    VoucherifyNoAnswerError,
    VoucherifyNotFoundError,
    VoucherifyNotSentError,
    VoucherifyPayloadTooLargeError,
    VoucherifyPermissionError,
    VoucherifyPlanError,
    VoucherifyQuotaExhaustedError,
    VoucherifyRateLimitError,
    VoucherifyRecordsRejectedError,
    VoucherifyReportError,
    VoucherifyServerError,
    VoucherifyTaskKilledError,
    VoucherifyTransportError,
    VoucherifyUnexpectedAnswerError,
)

__all__ = [
    "VoucherifyActionFailedError",
    "VoucherifyApiError",
    "VoucherifyAuthenticationError",
    "VoucherifyBadRequestError",
    "VoucherifyCompletionTimeoutError",
    "VoucherifyConfigurationError",
    "VoucherifyConflictError",
    "VoucherifyError",
    "VoucherifyExportError",
    "VoucherifyNewerRunError",
    "VoucherifyNoAnswerError",
    "VoucherifyNotFoundError",
    "VoucherifyNotSentError",
    "VoucherifyPayloadTooLargeError",
    "VoucherifyPermissionError",
    "VoucherifyPlanError",
    "VoucherifyQuotaExhaustedError",
    "VoucherifyRateLimitError",
    "VoucherifyRecordsFailedError",
    "VoucherifyRecordsRejectedError",
    "VoucherifyReportError",
    "VoucherifyRowsWithoutIdsError",
    "VoucherifyServerError",
    "VoucherifyTaskKilledError",
    "VoucherifyTooFewRowsError",
    "VoucherifyTransportError",
    "VoucherifyUnexpectedAnswerError",
]


class VoucherifyNewerRunError(VoucherifyError, AirflowFailException):
    """Later runs of the task have sent their rows already, and ``newer_runs`` of ``fail_if`` forbids that."""


class VoucherifyRowsWithoutIdsError(VoucherifyError, AirflowFailException):
    """A retry cannot know whether a CSV file's rows were sent already, and rows without ids would be created twice."""


class VoucherifyTooFewRowsError(VoucherifyError, AirflowFailException):
    """An export has fewer rows than ``rows_below`` of ``fail_if`` demands; what it was to replace is as it was."""


class VoucherifyRecordsFailedError(VoucherifyError, AirflowFailException):
    """
    More rows failed than the task allows. Airflow does not retry it: the same rows would fail again.

    :param summary: the sync's summary as a plain dict, the first failures included.
    """

    def __init__(self, message: str, summary: dict[str, Any] | None = None) -> None:
        self.summary = summary or {}
        super().__init__(message)
