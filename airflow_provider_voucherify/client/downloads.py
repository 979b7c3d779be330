"""Downloads of reports and exports: from where, within which limits, and what to do after a failure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from enum import Enum
from urllib.parse import urljoin, urlsplit

import httpx

from airflow_provider_voucherify.client.answer_bodies import Unpacking
from airflow_provider_voucherify.client.rate_limits import RateLimit
from airflow_provider_voucherify.client.redaction import redacted_url
from airflow_provider_voucherify.client.retry import CallOutcome, RetryPolicy, seconds_until_retry
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Answer, NoAnswer
from airflow_provider_voucherify.models.errors import VoucherifyExportError, VoucherifyReportError

MAX_REPORT_BYTES = 1024 * 1024 * 1024
MAX_REPORT_SECONDS = 1_800.0
"""A report that is larger, or takes longer to arrive, is not read to its end."""

MAX_EXPORT_BYTES = 16 * 1024 * 1024 * 1024
MAX_EXPORT_SECONDS = 6 * 3_600.0
"""The same for an export, which may have every customer of a large shop."""

MAX_REDIRECTS = 5


class FileKind(Enum):
    """What is downloaded; the value is its name in errors."""

    REPORT = "report"
    EXPORT = "export"

    @property
    def max_bytes(self) -> int:
        """Size of the largest file that is read, unpacked."""
        return MAX_REPORT_BYTES if self is FileKind.REPORT else MAX_EXPORT_BYTES

    @property
    def max_seconds(self) -> float:
        """Longest time that a file may take to arrive."""
        return MAX_REPORT_SECONDS if self is FileKind.REPORT else MAX_EXPORT_SECONDS

    def error(self, what: str) -> VoucherifyReportError | VoucherifyExportError:
        """Return the error for a file that cannot be had; ``what`` goes on after ``the report`` or ``the export``."""
        kind = VoucherifyReportError if self is FileKind.REPORT else VoucherifyExportError
        return kind(f"the {self.value}{what}")


def bounded_pieces(response: httpx.Response, kind: FileKind) -> Iterator[bytes]:
    """Yield the body of a file, unpacked, within limits of size and time."""
    deadline, size = time.monotonic() + kind.max_seconds, 0
    unpacking = Unpacking(response.headers.get("content-encoding", ""))
    unpacking.check()
    for chunk in response.iter_raw():
        for piece in unpacking.pieces(chunk):
            size += len(piece)
            if size > kind.max_bytes or time.monotonic() > deadline:
                raise kind.error(f" is larger than {kind.max_bytes:,} bytes or arrived too slowly")
            yield piece
    unpacking.end()


class Download:
    """
    Decides how a file is fetched: from where, with which credentials, and what to do after a failure.

    Redirects are followed, at most ``MAX_REDIRECTS``; each hop gets credentials only if the connection owns its URL.

    :param waited: seconds that the client has waited for rate limits since it last got a file.
    """

    def __init__(
        self, kind: FileKind, settings: ConnectionSettings, retry: RetryPolicy, url: str, waited: float
    ) -> None:
        self.kind = kind
        self._settings, self._retry, self._start = settings, retry, url
        self.url = url
        self.refused_token: str | None = None
        self.expired = False
        """Whether the last answer looks like that to an address whose time is over."""
        self._hops = self._failures = 0
        self.waited = waited

    @property
    def shown(self) -> str:
        """The URL without its query and user, which may hold a token."""
        return redacted_url(self.url).removesuffix("?…")

    def check(self) -> None:
        """Raise if the URL must not be fetched."""
        try:
            parts = urlsplit(self.url)
        except ValueError as error:
            raise self.kind.error(f"'s address is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self.kind.error(f"'s address is not an http(s) URL: {self.shown}")
        downgraded = parts.scheme == "http" and self._settings.base_url.startswith("https")
        if downgraded and not self._settings.extra.allow_http:
            raise self.kind.error(f" is offered over plain http, which is refused: {self.shown}")

    def redirected(self, response: httpx.Response) -> bool:
        """Say whether an answer redirects; if so, its target is next."""
        if not response.has_redirect_location:
            return False
        self._hops += 1
        if self._hops > MAX_REDIRECTS:
            raise self.kind.error(f" is redirected more than {MAX_REDIRECTS} times: {self.shown}")
        try:
            self.url = urljoin(self.url, response.headers["location"])
        except ValueError as error:
            raise self.kind.error(f"'s redirect is not a URL ({error}): {self.shown}") from None
        return True

    def needs_token(self, response: httpx.Response, headers: Mapping[str, str]) -> bool:
        """Say whether a token was refused and can be renewed, which is done once."""
        token = headers.get("Authorization")
        if response.status_code != 401 or token is None or self.refused_token is not None:
            return False
        self.refused_token = token.removeprefix("Bearer ")
        return True

    def wait_after(self, answer: Answer | NoAnswer) -> float:
        """Return the seconds to wait before starting again, or raise."""
        if isinstance(answer, Answer):
            outcome = CallOutcome(answer.status, rate_limit=RateLimit.from_headers(answer.headers))
        else:
            outcome = CallOutcome(None)
        status = outcome.status
        self._failures += status != 429
        wait = seconds_until_retry(
            self._retry, outcome, safe=True, failures=self._failures, waited=self.waited, now=time.time()
        )
        if wait is None:
            reason = answer.why if isinstance(answer, NoAnswer) else f"status {answer.status}"
            self.expired = status in (401, 403, 404, 410)
            hint = ", it may have expired" if self.expired else ""
            raise self.kind.error(f" could not be fetched ({reason}{hint}): {self.shown}")
        self.waited += wait if status == 429 else 0.0
        self.url, self._hops = self._start, 0
        return wait
