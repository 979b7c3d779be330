"""The hook of operators and sensor, which reports what it has sent when it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.meter import Meter
    from airflow_provider_voucherify.client.settings import ConnectionSettings


class MeteredHook(VoucherifyHook):
    """
    A hook that reports what its client has sent when it is closed, however the task ends.

    :param voucherify_conn_id: connection of type ``voucherify``.
    :param on_close: called if anything was sent.
    :param quotes_answers: whether errors have Voucherify's own words, which may quote what was sent.
    """

    def __init__(
        self, voucherify_conn_id: str, on_close: Callable[[Meter], None], *, quotes_answers: bool = True
    ) -> None:
        super().__init__(voucherify_conn_id)
        self._on_close = on_close
        self._quotes_answers = quotes_answers

    @property
    def settings(self) -> ConnectionSettings:
        """The connection's settings, with the wish about errors."""
        return super().settings.model_copy(update={"quotes_answers": self._quotes_answers})

    def close(self) -> None:
        """Close the client's connections, and report."""
        client = self._client
        super().close()
        if client is not None and client.meter.requests:
            self._on_close(client.meter)
