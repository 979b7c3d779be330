"""
All errors, as a tree whose names users can use (``except``, or Airflow's ``ExceptionRetryPolicy``).

::

    VoucherifyError
    ├── VoucherifyConfigurationError      a connection or a parameter that cannot work
    ├── VoucherifyTransportError          no usable answer arrived
    │   ├── VoucherifyNotSentError        certain that Voucherify did not accept the request
    │   └── VoucherifyNoAnswerError       sent, perhaps accepted: a POST is never repeated blindly
    ├── VoucherifyUnexpectedAnswerError   an answer that contradicts the API description
    ├── VoucherifyApiError                Voucherify answered with an error status
    │   ├── VoucherifyBadRequestError         400, 405, 406, 415, 422
    │   ├── VoucherifyAuthenticationError     401
    │   ├── VoucherifyPlanError               402
    │   ├── VoucherifyPermissionError         403
    │   ├── VoucherifyNotFoundError           404, 410
    │   ├── VoucherifyConflictError           409, 423
    │   ├── VoucherifyPayloadTooLargeError    413
    │   ├── VoucherifyRateLimitError          429
    │   │   └── VoucherifyQuotaExhaustedError     429 of the billing cycle: waiting does not help
    │   └── VoucherifyServerError             408, 5xx
    ├── VoucherifyActionFailedError       an async action failed as a whole: the next try sends its batch again
    ├── VoucherifyRecordsRejectedError    records failed, and the next try sends them again (on_retry)
    ├── VoucherifyReportError             a report that is missing, expired or unreadable
    ├── VoucherifyExportError             an export that failed, or whose file cannot be fetched
    ├── VoucherifyCompletionTimeoutError  async actions were not finished in the time allowed
    └── VoucherifyTaskKilledError         the task was killed, and stopped sending or waiting

``airflow_provider_voucherify.exceptions`` offers the same names and adds ``VoucherifyRecordsFailedError``,
which Airflow does not retry. No message contains a credential.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class PortableError(Exception):
    """An error that can be pickled and copied with all its attributes, whatever its class takes as arguments."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make an equal error."""
        return _restored, (type(self), self.args, self.__dict__.copy())


def _restored(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class VoucherifyError(PortableError):
    """
    Root of all errors of this provider.

    :ivar advice: what to do about it, in a few sentences without credentials; None if unknown. The error's
        text ends with it.
    """

    advice: str | None = None

    @property
    def happened(self) -> str:
        """Return the text without the advice."""
        return super().__str__()

    def __str__(self) -> str:
        """Return what happened, and what to do about it."""
        return self.happened if self.advice is None else f"{self.happened.rstrip('.')}. {self.advice}"


class VoucherifyConfigurationError(VoucherifyError, ValueError):
    """A connection, or a parameter of an operator or client, that cannot work."""


def refuse_all(mistakes: Iterable[str]) -> None:
    """
    Raise an error that lists all mistakes, if there are any.

    :raises VoucherifyConfigurationError: with a line for each mistake, if there are several.
    """
    if lines := list(dict.fromkeys(mistakes)):
        raise VoucherifyConfigurationError(
            "\n  ".join([f"{len(lines)} mistakes:", *lines] if len(lines) > 1 else lines)
        )


class VoucherifyTransportError(VoucherifyError):
    """No usable answer arrived."""


class VoucherifyNotSentError(VoucherifyTransportError):
    """The request did not reach Voucherify (no connection); repeating it is safe for every method."""


class VoucherifyNoAnswerError(VoucherifyTransportError):
    """The request was sent and no answer came back; Voucherify may have accepted it."""


class VoucherifyUnexpectedAnswerError(VoucherifyError):
    """An answer with a success status whose body is not what the API description says."""


class VoucherifyActionFailedError(VoucherifyError):
    """
    An async action failed as a whole, and more rows with it than the task allows.

    Unlike failed records this may be transient, so Airflow retries it, and the next try sends the batch again.
    """


class VoucherifyRecordsRejectedError(VoucherifyError):
    """
    More records failed than the task allows, and ``on_retry="resend_failed"``: Airflow retries, and sends only them.

    Without that option such a task fails without a retry, see ``VoucherifyRecordsFailedError``.
    """


class VoucherifyReportError(VoucherifyError):
    """A report that is missing, expired or unreadable."""


class VoucherifyExportError(VoucherifyError):
    """
    An export that ended with the status ``ERROR``, has no file yet, or whose file is gone or cannot be fetched.

    Voucherify does not say why an export failed. Creating another one changes nothing, so a retry may do that.
    """


class VoucherifyCompletionTimeoutError(VoucherifyError):
    """
    Async actions were not finished in the time allowed.

    Voucherify continues them: the API has no way to cancel them.
    """


class VoucherifyTaskKilledError(VoucherifyError):
    """
    The task was killed (marked, or its worker shut down), so it stopped sending or waiting.

    :param how_far: how far it had come, for the message.
    """

    def __init__(self, how_far: str) -> None:
        super().__init__(
            f"the task was killed {how_far}; what was submitted continues at Voucherify, whose API has no way to "
            "cancel it"
        )


class VoucherifyApiError(VoucherifyError):
    """
    Voucherify answered with an error status.

    :param call: the request as ``METHOD /path``, without credentials and query.
    :param status: HTTP status.
    :param key: the API's error key, e.g. ``invalid_payload``; None if the answer has none.
    :param message: the API's message.
    :param details: the API's details.
    :param request_id: the API's id of the request (``v-…``), for the vendor's support.
    :param asked: ``call`` with host and connection, for the text.
    """

    def __init__(
        self,
        call: str,
        status: int,
        *,
        key: str | None = None,
        message: str | None = None,
        details: str | None = None,
        request_id: str | None = None,
        asked: str | None = None,
    ) -> None:
        self.call = call
        self.asked = asked or call
        self.status = status
        self.key = key
        self.message = message
        self.details = details
        self.request_id = request_id
        super().__init__(self._text())

    def _text(self) -> str:
        text = f"{self.asked} was answered with {self.status}"
        if reason := " - ".join(part for part in (self.message, self.details) if part):
            text += f": {reason}"
        marks = [f"{name} {value}" for name, value in (("key", self.key), ("request", self.request_id)) if value]
        return f"{text} ({', '.join(marks)})" if marks else text


class VoucherifyBadRequestError(VoucherifyApiError):
    """The request itself is wrong (400, 405, 406, 415, 422)."""


class VoucherifyAuthenticationError(VoucherifyApiError):
    """Application id, secret key or token was not accepted (401)."""


class VoucherifyPlanError(VoucherifyApiError):
    """The subscription plan does not include this (402)."""


class VoucherifyPermissionError(VoucherifyApiError):
    """The key or token may not do this: role, scope, region or IP allow-list (403)."""


class VoucherifyNotFoundError(VoucherifyApiError):
    """The project has no such object (404, 410)."""


class VoucherifyConflictError(VoucherifyApiError):
    """A duplicate, or a locked resource (409, 423)."""


class VoucherifyPayloadTooLargeError(VoucherifyApiError):
    """The body is larger than the gateway takes (413)."""


class VoucherifyRateLimitError(VoucherifyApiError):
    """
    A rate limit was hit, and its end is unknown or too far away to wait for (429).

    :param limit_type: ``api_calls``, ``bulk_api_calls``, ``api_calls_cycle``; None if unknown.
    :param retry_at: time from which requests are allowed again, Unix epoch seconds; None if unknown.
    :param sent: False if the call was not sent, because the limit was known to be used up.
    """

    def __init__(
        self,
        call: str,
        status: int,
        *,
        limit_type: str | None = None,
        retry_at: float | None = None,
        sent: bool = True,
        key: str | None = None,
        message: str | None = None,
        details: str | None = None,
        request_id: str | None = None,
        asked: str | None = None,
    ) -> None:
        self.limit_type = limit_type
        self.retry_at = retry_at
        self.sent = sent
        super().__init__(call, status, key=key, message=message, details=details, request_id=request_id, asked=asked)

    def _text(self) -> str:
        return super()._text() if self.sent else f"{self.asked} was not sent: {self.message}"


class VoucherifyQuotaExhaustedError(VoucherifyRateLimitError):
    """The billing cycle's API calls are used up; only the next cycle, or a larger plan, helps."""

    def _text(self) -> str:
        return super()._text() + "; the API calls of this billing cycle are used up, so no wait was tried"


class VoucherifyServerError(VoucherifyApiError):
    """Voucherify, or a gateway before it, failed (408, 5xx)."""


def is_transient(error: VoucherifyError) -> bool:
    """Say whether a read that failed this way may succeed later by itself."""
    return isinstance(
        error,
        VoucherifyTransportError | VoucherifyServerError | VoucherifyRateLimitError | VoucherifyUnexpectedAnswerError,
    ) and not isinstance(error, VoucherifyQuotaExhaustedError)


def is_permanent(error: VoucherifyError) -> bool:
    """Say whether the same request will fail in the same way until somebody fixes the cause."""
    return isinstance(
        error,
        VoucherifyConfigurationError
        | VoucherifyBadRequestError
        | VoucherifyAuthenticationError
        | VoucherifyPlanError
        | VoucherifyPermissionError,
    )


def certainly_not_accepted(error: VoucherifyError) -> bool:
    """Say whether Voucherify has certainly not accepted a request that failed this way, and so has changed nothing."""
    refused = isinstance(error, VoucherifyApiError) and not isinstance(error, VoucherifyServerError)
    return refused or isinstance(error, VoucherifyNotSentError | VoucherifyConfigurationError)
