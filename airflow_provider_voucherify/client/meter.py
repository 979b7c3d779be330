"""Counts of what one client has sent, and how long it has waited for rate limits."""

from __future__ import annotations

import threading

from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS, METADATA_ENDPOINTS, UPDATE_ENDPOINTS

_BULK_PATHS = (
    *(endpoint.path for table in (UPDATE_ENDPOINTS, METADATA_ENDPOINTS) for endpoint in table.values()),
    *(endpoint.path for endpoint in CSV_IMPORT_ENDPOINTS.values()),
)


class Meter:
    """
    Counts the requests of a client, whatever the answers; several threads may send at the same time.

    :ivar requests: API requests, retries included; downloads of reports are not counted.
    :ivar bulk_requests: of these, the bulk updates and CSV imports.
    :ivar bytes_sent: bytes of their bodies.
    :ivar rate_limit_seconds: seconds that requests waited for rate limits. Two that wait at the same time count
        twice.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.bulk_requests = 0
        self.bytes_sent = 0
        self.rate_limit_seconds = 0.0
        self._lock = threading.Lock()

    def sent(self, url: str, length: int) -> None:
        """
        Count a request.

        :param url: where it went.
        :param length: bytes of its body.
        """
        is_bulk = url.endswith(_BULK_PATHS)
        with self._lock:
            self.requests += 1
            self.bulk_requests += is_bulk
            self.bytes_sent += length if is_bulk else 0

    def waited(self, seconds: float) -> None:
        """Count a wait for a rate limit."""
        with self._lock:
            self.rate_limit_seconds += seconds
