"""What Voucherify has, read back by an export: a few calls, however many records there are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.models.errors import (
    VoucherifyBadRequestError,
    VoucherifyCompletionTimeoutError,
    VoucherifyExportError,
    VoucherifyTaskKilledError,
)
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.task.completion import KILLED_SECONDS
from airflow_provider_voucherify.task.parameters import poll_interval_of, seconds

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.models.exports import Export
    from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords

log = logging.getLogger(__name__)

CALLS_PER_EXPORT = 4
"""API calls that an export takes at least: one creates it, one finds it finished, and two download it."""


class ExportReader:
    """
    Reads what Voucherify has of a resource, and waits for that on the worker.

    :param task: of its parameters ``resource``, ``poll_interval`` and ``completion_timeout`` are read.
    :param is_killed: says whether ``on_kill`` has been called.
    """

    def __init__(self, task: Any, client: VoucherifyClient, is_killed: Callable[[], bool]) -> None:
        self._client = client
        self._resource: str = task.resource
        self._poll_interval = poll_interval_of(task.poll_interval, client)
        self._timeout = seconds(task.completion_timeout)
        self._until = time.monotonic() + self._timeout
        self._is_killed = is_killed

    def fetch(self, found: FoundRecords) -> None:
        """
        Fill in what Voucherify has.

        :raises VoucherifyExportError: the export failed or cannot be read.
        :raises VoucherifyCompletionTimeoutError: it takes longer than ``completion_timeout``.
        :raises VoucherifyTaskKilledError: the task was killed.
        """
        started = time.monotonic()
        export = self._create(found)
        log.info("Waiting for the export %s of what Voucherify has of %s", export.id, ", ".join(found.fields))
        export = self._wait(lambda: self._client.send(_get_export(export.id)), lambda one: one.is_finished)
        if export.has_failed:
            raise VoucherifyExportError(f"the export {export.id} failed, and Voucherify does not say why")
        with TemporaryFile(prefix="voucherify-") as file:
            size = self._client.download_export(export.id, file)
            found.read(file)
        log.info(
            "Voucherify has %s (%s bytes, %.0f s)",
            *(counted(found.number, self._resource.removesuffix("s")), f"{size:,}", time.monotonic() - started),
        )

    def wait_for_updates(self) -> None:
        """
        Wait until Voucherify has processed all updates of the resource that are queued, whoever has sent them.

        Before that it does not show what it will have. Of its list of async actions the newest hundred are looked at.
        """
        from airflow_provider_voucherify.client.calls import list_async_actions

        kind = f"{self._resource.upper()}."

        def queued() -> int:
            actions = self._client.send(list_async_actions()).async_actions
            return sum((one.type or "").startswith(kind) and not one.is_finished for one in actions)

        if waits_for := queued():
            log.info("Waiting for %s of %s", counted(waits_for, "queued update"), self._resource)
            self._wait(queued, lambda number: not number)

    def _create(self, found: FoundRecords) -> Export:
        from airflow_provider_voucherify.client.exports import create_export

        name = self._resource.removesuffix("s")
        try:
            return self._client.send(create_export(name, fields=found.fields))
        except VoucherifyBadRequestError as error:
            if error.key != "invalid_export_fields" or not found.ask_for_all_metadata():
                raise
            log.info("Voucherify exports no single members of metadata, so all of it is asked for")
            return self._client.send(create_export(name, fields=found.fields))

    def _wait(self, get: Callable[[], Any], is_done: Callable[[Any], bool]) -> Any:
        from airflow_provider_voucherify.sync.waiting.pauses import pause

        started = time.monotonic()
        while True:
            answer = get()
            if is_done(answer):
                return answer
            elapsed = time.monotonic() - started
            if time.monotonic() > self._until:
                raise VoucherifyCompletionTimeoutError(
                    f"what Voucherify has could not be read back within {self._timeout:.0f} s (completion_timeout)"
                )
            self._sleep(pause(elapsed, self._poll_interval))

    def _sleep(self, length: float) -> None:
        until = time.monotonic() + length
        while (left := until - time.monotonic()) > 0:
            if self._is_killed():
                raise VoucherifyTaskKilledError("while it waited for what Voucherify has")
            time.sleep(min(left, KILLED_SECONDS))


def _get_export(export_id: str) -> Any:
    from airflow_provider_voucherify.client.exports import get_export

    return get_export(export_id)


def stored_record(client: VoucherifyClient, resource: str, record_id: str) -> dict[str, Any]:
    """
    Return a record as the API shows it, decoded and no more.

    :raises VoucherifyNotFoundError: there is none.
    """
    from airflow_provider_voucherify.client import customers, products, vouchers

    get: Any = {
        "customers": customers.get_customer,
        "products": products.get_product,
        "vouchers": vouchers.get_voucher,
    }[resource]
    stored: dict[str, Any] = client.send(replace(get(record_id), parse=lambda answer: answer))
    return stored
