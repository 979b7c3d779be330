"""
What the Test button says: one cheap call, and for each possible failure what is wrong and what to do.

A working call shows that host, keys (or OAuth scope) and the right to read async actions are good. It does not show
that the keys may update customers, products or vouchers: only an update would. ``client.advice`` has the advice for
each error, for tasks as well.
"""

from __future__ import annotations

from airflow_provider_voucherify.client.advice import where
from airflow_provider_voucherify.client.auth import missing_scopes
from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings, without_effect
from airflow_provider_voucherify.models.endpoints import RESOURCES
from airflow_provider_voucherify.models.errors import VoucherifyError

CHECK_SECONDS = 20.0
"""Longest time that a check waits for an answer, while the person who pressed the button waits too."""


def check_connection(settings: ConnectionSettings) -> tuple[bool, str]:
    """
    Make one call and return its outcome.

    :param settings: of the connection; its timeouts apply if they are below ``CHECK_SECONDS``.
    :returns: whether it worked, and a message of a few sentences, without credentials.
    """
    extra = settings.extra
    quick = {name: min(getattr(extra, name), CHECK_SECONDS) for name in ("timeout", "connect_timeout")}
    impatient = settings.model_copy(update={"extra": extra.model_copy(update=quick)})
    try:
        with VoucherifyClient(impatient, retry=RetryPolicy(attempts=1, max_rate_limit_wait=0)) as client:
            client.list_async_actions(limit=1)
    except VoucherifyError as error:
        return False, error.happened if error.advice is None else f"{error.advice} ({error.happened})"
    sentences = [f"Voucherify at {where(settings)} accepts these credentials."]
    if missing := missing_scopes(settings, RESOURCES):
        sentences.append(f"The OAuth scope lacks {', '.join(missing)}, so bulk updates of these will be refused.")
    if settings.unknown_extras:
        sentences.append(f"The extra has {without_effect(settings.unknown_extras)}.")
    return True, " ".join(sentences)
