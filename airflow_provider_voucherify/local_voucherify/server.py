"""Runs the local Voucherify: sockets, a thread with uvicorn in it, and the object that tests hold on to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Collection, Mapping
from dataclasses import replace
from threading import Event, Thread
from types import TracebackType
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_voucherify.local_voucherify.actions import (
    Action,
    ActionScript,
    Unfinished,
    WireHook,
    failed_as_a_whole,
)
from airflow_provider_voucherify.local_voucherify.app import CLOSE_CONNECTION, VoucherifyApp
from airflow_provider_voucherify.local_voucherify.exports import ExportScript, ExportStatus
from airflow_provider_voucherify.local_voucherify.misbehaviour import (
    EXPORTS_PATH,
    REPORTS_PATH,
    Fault,
    Misbehaviours,
    Where,
)
from airflow_provider_voucherify.local_voucherify.options import SAME_HOST, SEPARATE_HOST, Options
from airflow_provider_voucherify.local_voucherify.records import RecordStore
from airflow_provider_voucherify.local_voucherify.requests_log import Received, RequestsLog
from airflow_provider_voucherify.local_voucherify.state import Project

_BACKLOG = 128


class LocalVoucherify:
    """
    A local stand-in for Voucherify; as a context manager it serves HTTP from a thread.

    ``with LocalVoucherify(action_seconds=0.5) as server: ...`` listens on 127.0.0.1. It keeps everything in memory,
    and it is no more than what its routes say: see the package's documentation for what it leaves out.

    :param host: address to listen on.
    :param port: port to listen on; 0 takes a free one.
    :param options: any of the fields of ``Options``.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self._host = host
        self._port = port
        self._project = Project(Options(**options))
        self._misbehaviours = Misbehaviours()
        self._requests = RequestsLog()
        self._running: _RunningServer | None = None
        self.base_url = ""
        """URL that API paths are appended to, known once the server is started; no slash at the end."""

    def __enter__(self) -> LocalVoucherify:
        """Start to serve."""
        self.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, closing every connection."""
        self.stop()

    def start(self) -> None:
        """Listen and return once connections are accepted."""
        with contextlib.ExitStack() as cleanup:
            sockets = [cleanup.enter_context(_listening_socket(self._host, self._port))]
            self.base_url = _url(sockets[0])
            report_host = self._project.options.report_host
            if report_host == SEPARATE_HOST:
                sockets.append(cleanup.enter_context(_listening_socket(self._host, 0)))
                report_host = _url(sockets[1])
            elif report_host == SAME_HOST:
                report_host = self.base_url
            self._project.reports_url = report_host.rstrip("/") + REPORTS_PATH
            self._project.export_files_url = report_host.rstrip("/") + EXPORTS_PATH
            app = VoucherifyApp(self._project, self._misbehaviours, self._requests)
            self._running = _RunningServer(app, sockets)
            cleanup.pop_all()

    def stop(self) -> None:
        """Close all connections and sockets and end the thread; does nothing when not started."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    @property
    def options(self) -> Options:
        """What the server was told to be."""
        return self._project.options

    @property
    def customers(self) -> RecordStore:
        """The stored customers by ``source_id``, each as the API shows it."""
        return self._project.records("customers")

    @property
    def products(self) -> RecordStore:
        """The stored products by ``source_id``, each as the API shows it."""
        return self._project.records("products")

    @property
    def vouchers(self) -> RecordStore:
        """The stored vouchers by ``code``, each as the API shows it."""
        return self._project.records("vouchers")

    @property
    def skus(self) -> RecordStore:
        """The stored SKUs by ``source_id``, each as the API shows it."""
        return self._project.records("skus")

    @property
    def actions(self) -> dict[str, Action]:
        """The async actions by id, oldest first."""
        return self._project.actions()

    @property
    def tokens(self) -> list[str]:
        """The OAuth tokens that were given out and not revoked, for tests that search for them where none should be."""
        return self._project.tokens.values()

    @property
    def export_tokens(self) -> list[str]:
        """The tokens in the addresses of exports' files that were given out last, for the same tests."""
        return list(self._project.exports.tokens)

    @property
    def received(self) -> list[Received]:
        """The requests, oldest first, including those that were refused or dropped."""
        return self._requests.all()

    def requests(self, method: str, path: str) -> list[Received]:
        """Return the received requests of a method and an exact path."""
        return [request for request in self.received if (request.method, request.path) == (method, path)]

    def add_voucher(self, code: str, *, metadata: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """
        Create a voucher without a request.

        :param fields: fields of the voucher object that differ from a plain discount voucher.
        """
        self._project.add_voucher(code, {**fields, "metadata": dict(metadata or {})})

    def set_metadata_schema(self, resource: str, schema: Mapping[str, Any]) -> None:
        """
        Define or replace a metadata schema, as an administrator does in the dashboard while syncs go on.

        :param resource: ``customers``, ``products``, ``vouchers``, or the name of a custom schema.
        :param schema: ``properties`` and ``allow_defined_only``, as in the option ``metadata_schemas``.
        """
        self._project.set_metadata_schema(resource, schema)

    def add_segment(self, name: str, source_ids: Collection[str]) -> str:
        """Make a segment of customers and return its id; no endpoint here does."""
        return self._project.add_segment(name, source_ids)

    def add_activity(self, source_id: str, event_type: str = "customer.custom_event", **data: Any) -> str:
        """Let something happen to a customer and return its id. Creating and updating one by one does so by itself."""
        return self._project.add_activity(source_id, event_type, data)

    def misbehave(self, where: Where, what: Fault, *, times: int | None = 1, after: int = 0) -> None:
        """
        Let a fault befall coming requests. Faults strike in the order in which they were armed, one per request.

        :param where: ``submit``, ``poll``, ``list``, ``token``, ``report`` or ``export`` (its file); the start of a
            path; or a predicate of method and path.
        :param times: how many requests it befalls; None for all.
        :param after: how many matching requests pass first (those that an earlier fault takes are not counted).
        """
        self._misbehaviours.arm(where, what, times=times, after=after)

    def behave(self) -> None:
        """Disarm all faults."""
        self._misbehaviours.clear()

    def next_actions(
        self,
        *,
        times: int = 1,
        stuck: Unfinished | None = None,
        seconds: float | None = None,
        applies_records: bool = True,
        result_fields: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
        **fields: Any,
    ) -> None:
        """
        Let the next actions depart from what their records would give; ``status="FAILED"`` alone is a total failure.

        :param times: how many actions.
        :param stuck: the unfinished status that they keep for ever, without holding up those behind them.
        :param seconds: how long each takes.
        :param applies_records: whether their records are stored.
        :param result_fields: fields of ``result`` to overwrite, e.g. a contradictory ``failed_count``.
        :param without: fields to leave out once finished, e.g. ``["result"]``.
        :param fields: fields of the finished action to overwrite, e.g. ``operation_status="FAILED"``.
        """
        if fields == {"status": "FAILED"} and not without and not result_fields:
            script = failed_as_a_whole()
        else:
            script = ActionScript(fields=fields, result_fields=result_fields or {}, without=without)
            script = replace(script, applies_records=applies_records)
        self._project.script_next(replace(script, stuck=stuck, seconds=seconds), times)

    def add_exported(self, exported_object: str, row: Mapping[str, Any]) -> None:
        """
        Add an object for exports; customers, vouchers, products and SKUs have those that are stored.

        :param exported_object: ``redemption``, ``publication``, ``order``, ``points_expiration`` or
            ``voucher_transactions``.
        :param row: values by the names of an export's fields and filters, and a dict as ``metadata``.
        """
        self._project.add_exported(exported_object, dict(row))

    def next_exports(self, *, times: int = 1, status: ExportStatus | None = None, seconds: float | None = None) -> None:
        """
        Let the next exports depart from what they would be.

        :param times: how many exports.
        :param status: ``ERROR`` in the end, or ``SCHEDULED`` or ``IN_PROGRESS`` for ever.
        :param seconds: how long each takes.
        """
        self._project.exports.script_next(ExportScript(status, seconds), times)

    def script_action(self, hook: WireHook) -> None:
        """
        Pass every action through ``hook(action, wire)`` before it is shown, singly and in lists.

        :param hook: gives the object to show; it may change and return the one it gets.
        """
        self._project.add_hook(hook)

    def expire_tokens(self) -> None:
        """End all OAuth tokens at once, as when their key is deleted."""
        self._project.tokens.clear()

    def reset(self) -> None:
        """Forget all objects, actions, tokens, requests, scripts and faults; the server keeps running."""
        self._project.reset()
        self._misbehaviours.clear()
        self._requests.clear()


class _DroppableH11Protocol(H11Protocol):
    """Gives the application, through the ASGI state, a way to close its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, CLOSE_CONNECTION: transport.close}


class _UvicornServer(uvicorn.Server):
    """
    A uvicorn server that starts and stops at once.

    uvicorn's own loop looks every tenth of a second whether to stop, and then waits for connections to end; tests
    start many servers and want no waiting.
    """

    def __init__(self, config: uvicorn.Config, ready: Event) -> None:
        super().__init__(config)
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop_accepting()
        while self.server_state.connections or asyncio.all_tasks() - {asyncio.current_task()}:
            await self._cut_off_connections()
        for server in self.servers:
            server.close()
            await server.wait_closed()

    def _stop_accepting(self) -> None:
        """
        Take no new connections, but leave the listening sockets open.

        asyncio fails on a connection that it has just taken from a socket that is then closed.
        """
        for server in self.servers:
            for listening in server.sockets:
                asyncio.get_running_loop().remove_reader(listening)

    async def _cut_off_connections(self) -> None:
        """Close the connections and end their requests; one that is just being accepted is left for the next time."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Stop the server from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)


class _RunningServer:
    """A server in a thread of its own; it owns the sockets from here on."""

    def __init__(self, app: VoucherifyApp, sockets: list[socket.socket]) -> None:
        config = uvicorn.Config(
            _quiet_when_cancelled(app),
            loop="asyncio",
            http=_DroppableH11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
        )
        ready = Event()
        self._server = _UvicornServer(config, ready)
        self._thread = Thread(target=self._server.run, args=(sockets,), name="local-voucherify", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Stop, and return when the thread has ended."""
        self._server.stop()
        self._thread.join()


def _quiet_when_cancelled(app: VoucherifyApp) -> ASGIApp:
    """Return an app whose requests end silently when the server stops under them."""

    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return quiet


def _listening_socket(host: str, port: int) -> socket.socket:
    """
    Return a listening socket that is TCP by name.

    asyncio sends without delay only on those; on others each answer waits some 40 ms for an acknowledgement.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{host}:{port}"
