"""``VoucherifyHook``: a Voucherify connection and its clients; its methods for the API are in ``hooks.api_methods``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_voucherify.compat import (
    AirflowNotFoundException,
    BaseHook,
    get_async_connection,
    get_async_extra_dejson,
    stored_connection,
)
from airflow_provider_voucherify.connection import form as connection_form
from airflow_provider_voucherify.hooks.api_methods import ApiMethods

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import AsyncVoucherifyClient, VoucherifyClient
    from airflow_provider_voucherify.client.retry import RetryPolicy
    from airflow_provider_voucherify.client.settings import ConnectionSettings
    from airflow_provider_voucherify.compat import Connection


class VoucherifyHook(ApiMethods, BaseHook):
    """
    A client of one Voucherify project. Use it as a context manager, or call ``close``, to close its connections.

    The six bulk calls queue an update and return its ``async_action_id``; nothing has been updated when they return.
    They send records as they are: operators check rows, pack them into requests and wait for the outcome. Single
    records are read and written with models of ``airflow_provider_voucherify.models.records``.
    Everything raises the errors of ``airflow_provider_voucherify.exceptions``.

    :param voucherify_conn_id: connection of type ``voucherify``.
    :param retry: when to send a request again; see ``client.retry.RetryPolicy``.
    """

    conn_name_attr = "voucherify_conn_id"
    default_conn_name = "voucherify_default"
    conn_type = "voucherify"
    hook_name = "Voucherify"

    def __init__(self, voucherify_conn_id: str = default_conn_name, *, retry: RetryPolicy | None = None) -> None:
        super().__init__()
        self.voucherify_conn_id = voucherify_conn_id
        self._retry = retry
        self._client: VoucherifyClient | None = None

    @property
    def settings(self) -> ConnectionSettings:
        """
        The connection's settings.

        :raises VoucherifyConfigurationError: a field of the connection is missing or wrong.
        """
        from airflow_provider_voucherify.client.redaction import without_locals

        with without_locals():
            return _settings(self.get_connection(self.voucherify_conn_id))

    def get_conn(self) -> VoucherifyClient:
        """Return the hook's client, opened on first use."""
        from airflow_provider_voucherify.client.http import VoucherifyClient

        if self._client is None:
            self._client = VoucherifyClient(self.settings, retry=self._retry)
        return self._client

    async def get_async_conn(self) -> AsyncVoucherifyClient:
        """Open a new asynchronous client, for a trigger, without blocking the event loop."""
        from airflow_provider_voucherify.client.redaction import without_locals

        with without_locals():
            return await _async_client(self.voucherify_conn_id, self._retry)

    def download_report(self, url: str, file: BinaryIO) -> int:
        """
        Fetch a report into a seekable binary file and return its size in bytes.

        Credentials are sent to the connection's own hosts only.

        :param url: one of the ``reports`` of an action's result.
        """
        return self.get_conn().download(url, file)

    def download_export(self, export_id: str, file: BinaryIO) -> int:
        """
        Fetch the file of a finished export into a seekable binary file and return its size in bytes.

        It is CSV with a header. Its address, which holds a token, is asked for and used here, and not returned.

        :param export_id: ``exp_…``, as ``create_export`` returns it in ``id``.
        :raises VoucherifyExportError: the export failed, is not finished, or its file is gone or cannot be fetched.
        """
        return self.get_conn().download_export(export_id, file)

    def hidden_id(self, record_id: str) -> str:
        """
        Return what a task with ``hide_values`` shows in the place of a record's id, to look a record up by it.

        It is a keyed hash, whose key is derived from the connection's application ID and secret key: the same every
        night until one of them changes, and nobody without the connection can find an id by hashing likely ones.
        """
        from airflow_provider_voucherify.client.redaction import without_locals
        from airflow_provider_voucherify.sync.types.hiding import Hiding

        settings = self.settings
        with without_locals():
            return Hiding.of_project(settings.application_id, settings.secret_key.get_secret_value()).id(record_id)

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask Voucherify for the newest async action, and return whether the connection works, or what is wrong with it.

        The one call takes at most 20 seconds and changes nothing; with OAuth a token is fetched first.
        ``connection.check`` says what it cannot find out.
        """
        from airflow_provider_voucherify.connection.check import check_connection
        from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError

        try:
            return check_connection(self.settings)
        except VoucherifyConfigurationError as error:
            return False, str(error)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2; later ones read the metadata."""
        return connection_form.form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels of the connection form's standard fields, for Airflow before 3.2."""
        return connection_form.python_field_behaviour()

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> VoucherifyHook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stored_settings(voucherify_conn_id: str) -> ConnectionSettings:
    """
    Return the settings of a connection where there is no task: in a command on a machine that has Airflow's database.

    :raises VoucherifyConfigurationError: there is no such connection, or a field of it is missing or wrong.
    """
    from airflow_provider_voucherify.client.redaction import without_locals
    from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError

    with without_locals():
        try:
            connection = stored_connection(voucherify_conn_id)
        except AirflowNotFoundException as error:
            raise VoucherifyConfigurationError(str(error)) from None
        return _settings(connection)


async def _async_client(conn_id: str, retry: RetryPolicy | None) -> AsyncVoucherifyClient:
    connection = await get_async_connection(conn_id)
    return await asyncio.to_thread(_client_of, connection, await get_async_extra_dejson(connection), retry)


def _client_of(connection: Connection, extra: dict[str, Any], retry: RetryPolicy | None) -> AsyncVoucherifyClient:
    from airflow_provider_voucherify.client.http import AsyncVoucherifyClient

    return AsyncVoucherifyClient(_settings(connection, extra), retry=retry)


def _settings(connection: Connection, extra: dict[str, Any] | None = None) -> ConnectionSettings:
    from airflow_provider_voucherify.client.settings import ConnectionSettings

    return ConnectionSettings.build(
        application_id=connection.login,
        secret_key=connection.password,
        host=connection.host,
        scheme=connection.schema,
        port=connection.port,
        extra=connection.extra_dejson if extra is None else extra,
        conn_id=connection.conn_id,
    )
