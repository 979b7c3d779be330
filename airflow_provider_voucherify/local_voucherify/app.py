"""
The HTTP side of the local Voucherify: routes, credentials, body limits and headers around the project's state.

Paths, scopes, statuses and shapes are the contract's; what credentials permit is said on a page of the vendor's
(docs.voucherify.io/guides/authentication).
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from airflow_provider_voucherify.local_voucherify import errors
from airflow_provider_voucherify.local_voucherify.contract import Operation
from airflow_provider_voucherify.local_voucherify.endpoints import (
    GET_ACTION,
    GET_SCHEMA,
    GRANT_TYPES,
    INTROSPECT_TOKEN,
    ISSUE_TOKEN,
    LIST_ACTIONS,
    LIST_SCHEMAS,
    METADATA_ENDPOINTS,
    REVOKE_TOKEN,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.local_voucherify.export_routes import export_routes
from airflow_provider_voucherify.local_voucherify.metadata_schema import parse_iso_datetime
from airflow_provider_voucherify.local_voucherify.misbehaviour import (
    REPORTS_PATH,
    SUBMIT_PATHS,
    Exchange,
    Misbehaviours,
    path_for_faults,
)
from airflow_provider_voucherify.local_voucherify.options import Options
from airflow_provider_voucherify.local_voucherify.record_routes import json_answer, record_routes
from airflow_provider_voucherify.local_voucherify.report_files import MEDIA_TYPES
from airflow_provider_voucherify.local_voucherify.requests_log import (
    Received,
    RequestsLog,
    query_without_secrets,
    without_secrets,
)
from airflow_provider_voucherify.local_voucherify.state import Project
from airflow_provider_voucherify.local_voucherify.tokens import SCOPES
from airflow_provider_voucherify.local_voucherify.validation import read_payload

CLOSE_CONNECTION = "close_connection"
"""Name in the ASGI state of the function that closes the caller's connection; the HTTP protocol class puts it there."""


_LIST_DEFAULT = 10
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"

_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class VoucherifyApp:
    """
    The ASGI application.

    :param project: the state that it serves.
    :param misbehaviours: the faults that it plays.
    :param requests: the log that every request is added to.
    """

    def __init__(self, project: Project, misbehaviours: Misbehaviours, requests: RequestsLog) -> None:
        self._project = project
        self._misbehaviours = misbehaviours
        self._requests = requests
        self._routes = Starlette(
            routes=_Routes(project).all(),
            exception_handlers={errors.ApiError: _answer_api_error, HTTPException: _answer_http_exception},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the request, log it, and answer it or let a fault do so."""
        method, path = scope["method"], scope["path"]
        try:
            body = await _read_body(scope, receive, self._project.options.max_body_bytes)
        except ClientDisconnect:
            return
        ticket = self._requests.add(self._received(scope, body))

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.set_status(ticket, message["status"])
                _log.info("%s %s: %s", method, path, message["status"])
                date = formatdate(self._project.now(), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        async def close_connection() -> None:
            scope["state"][CLOSE_CONNECTION]()
            while (await receive())["type"] != "http.disconnect":
                pass

        async def process(answer: Send) -> None:
            await self._process(scope, body, receive, answer)

        fault = self._misbehaviours.strike(method, path_for_faults(path, scope["query_string"]))
        if fault is None:
            await process(send_and_note)
        else:
            await fault.play(Exchange(process, send_and_note, close_connection))

    def _received(self, scope: Scope, body: _Body) -> Received:
        return Received(
            method=scope["method"],
            path=scope["path"],
            query=query_without_secrets(scope["query_string"].decode("latin-1")),
            headers=without_secrets(scope["headers"]),
            body_bytes_length=body.length,
            body=body.content if self._project.options.keep_bodies else None,
        )

    async def _process(self, scope: Scope, body: _Body, receive: Receive, send: Send) -> None:
        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = self._limit_headers(scope["path"], refused=message["status"] == 429)
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        unread = [{"type": "http.request", "body": body.content, "more_body": False}]

        async def receive_body() -> Message:
            return unread.pop() if unread else await receive()

        if body.content is None:
            refusal = errors.body_too_large(self._project.options.max_body_bytes)
            await json_answer(refusal.body, refusal.status)(scope, receive_body, send_with_limits)
        else:
            await self._routes(scope, receive_body, send_with_limits)

    def _limit_headers(self, path: str, *, refused: bool) -> list[tuple[bytes, bytes]]:
        project = self._project
        headers = project.limits.headers(project.now(), bulk=_is_bulk(path, project.options), refused=refused)
        return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class _Body(msgspec.Struct, frozen=True):
    """A request body; ``content`` is None for one that is too large, of which only ``length`` bytes were looked at."""

    length: int
    content: bytes | None


async def _read_body(scope: Scope, receive: Receive, max_body_bytes: int) -> _Body:
    """Read a body up to the limit; what ``Content-Length`` announces as too large is not read at all."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if int(announced) > max_body_bytes:
        return _Body(int(announced), None)
    content = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        content += message.get("body", b"")
        if len(content) > max_body_bytes:
            return _Body(len(content), None)
        if not message.get("more_body", False):
            return _Body(len(content), bytes(content))


class _Routes:
    """The endpoints, each a thin step between HTTP and the project."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def all(self) -> list[Route]:
        """Return the routes; what no route takes is answered with the API's 404 or 405."""
        routes = [
            *(self._submit_route(e) for e in (*UPDATE_ENDPOINTS.values(), *METADATA_ENDPOINTS.values())),
            self._route(LIST_ACTIONS, self._list_actions),
            self._route(GET_ACTION, self._get_action),
            self._route(LIST_SCHEMAS, self._list_schemas),
            self._route(GET_SCHEMA, self._get_schema),
            self._route(ISSUE_TOKEN, self._issue_token),
            self._route(INTROSPECT_TOKEN, self._introspect_token),
            self._route(REVOKE_TOKEN, self._revoke_token),
            Route(f"{REPORTS_PATH}{{id}}", self._download_report),
        ]
        exports = export_routes(self._project, self._guarded, self._permit_file)
        return routes + exports + record_routes(self._project, self._guarded)

    def _route(self, operation: Operation, handler: Handler) -> Route:
        return Route(operation.path, self._guarded(operation, handler), methods=[operation.method])

    # Credentials and limits

    def _guarded(self, operation: Operation, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if operation.scope is None:
                self._require_api_key(request)
            else:
                self._authorize(request, operation.scope)
            self._require_region()
            self._count_call(request)
            return await handler(request)

        return guarded

    def _authorize(self, request: Request, scope: str | None) -> None:
        """Accept an API key or a token with the scope (any scope for None); a token wins if both are sent."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            self._require_api_key(request)
            return
        token = self._project.tokens.live(value, self._project.now()) if scheme.lower() == "bearer" else None
        if token is None:
            raise errors.unauthorized()
        status = self._project.options.missing_scope_status
        if scope is not None and status != 200 and not token.permits(scope):
            raise errors.missing_permission(scope, status)

    def _permit_file(self, request: Request, scope: str | None) -> None:
        """Accept a request for an export's file; without a scope nothing but the region matters."""
        if scope is not None:
            self._authorize(request, scope)
        self._require_region()

    def _require_api_key(self, request: Request) -> None:
        headers = request.headers
        if not self._project.knows_key(headers.get("x-app-id", ""), headers.get("x-app-token", "")):
            raise errors.unauthorized()

    def _require_region(self) -> None:
        if (right_url := self._project.options.right_url) is not None:
            raise errors.wrong_region(right_url, self._project.options.wrong_region_answer)

    def _count_call(self, request: Request) -> None:
        bulk = _is_bulk(request.url.path, self._project.options)
        if not self._project.limits.take(self._project.now(), bulk=bulk):
            raise errors.too_many_requests()

    # Bulk endpoints

    def _submit_route(self, endpoint: BulkEndpoint) -> Route:
        async def submit(request: Request) -> Response:
            _require_content_type(request, _JSON)
            payload = read_payload(
                endpoint, await self._body(request), takes_no_ids=self._project.options.empty_ids == "accepted"
            )
            self._project.refuse(endpoint, payload)
            action = self._project.schedule(endpoint, payload, errors.new_request_id())
            return json_answer({"async_action_id": action.id}, endpoint.operation.status)

        return self._route(endpoint.operation, submit)

    async def _body(self, request: Request) -> bytes:
        body = await request.body()
        if request.headers.get("content-encoding") != "gzip":
            return body
        match self._project.options.compressed_bodies:
            case "accepted":
                return gzip.decompress(body)
            case "misread":
                return b"[]"
        return body

    # Async actions

    async def _list_actions(self, request: Request) -> Response:
        page = self._project.actions_page(_read_limit(request), _read_end_date(request))
        answer = {"object": "list", "data_ref": "async_actions", "async_actions": page.actions}
        return json_answer({**answer, "has_more": page.has_more})

    async def _get_action(self, request: Request) -> Response:
        action_id = request.path_params["asyncActionId"]
        return _found(self._project.action_wire(action_id), "async_action", action_id)

    # Reports

    async def _download_report(self, request: Request) -> Response:
        """Send a report file; such a download is not an API call and counts towards no limit."""
        options = self._project.options
        if options.reports_need_auth:
            self._authorize(request, scope=None)
        file = self._project.report_file(request.path_params["id"], request.query_params.get("token", ""))
        if file is None:
            raise errors.unauthorized()
        if self._project.now() >= file.available_till:
            raise errors.http_error(options.expired_report_status)
        chunks = _one_by_one(file.chunks(options.report_format, options.report_columns))
        return StreamingResponse(chunks, media_type=MEDIA_TYPES[options.report_format])

    # Metadata schemas

    async def _list_schemas(self, request: Request) -> Response:
        """Answer with ``schemas`` as the contract describes, though it then requires ``data``, which it does not."""
        schemas = self._project.schemas_wire()
        return json_answer({"object": "list", "data_ref": "schemas", "schemas": schemas, "total": len(schemas)})

    async def _get_schema(self, request: Request) -> Response:
        related_object = request.path_params["resource"]
        return _found(self._project.schema_wire(related_object), "metadata schema", related_object)

    # OAuth

    async def _issue_token(self, request: Request) -> Response:
        form = await _read_form(request)
        if form.get("grant_type") not in GRANT_TYPES:
            raise errors.oauth_error("invalid_grant_type", "Invalid grant_type")
        scope = form.get("scope", "")
        if not scope.split() or not SCOPES.issuperset(scope.split()):
            raise errors.oauth_error("invalid_scope", f"Invalid scope: {scope}")
        now = self._project.now()
        return json_answer(self._project.tokens.issue(scope, now).wire(self._project.options.app_id, now))

    async def _introspect_token(self, request: Request) -> Response:
        form = await _read_form(request)
        if "access_token" not in form:
            raise errors.oauth_error("missing_parameters", "Missing parameters")
        now = self._project.now()
        token = self._project.tokens.live(form["access_token"], now)
        if token is None:
            return json_answer({"active": False})  # the vendor's example; the contract requires the token's members too
        return json_answer({**token.wire(self._project.options.app_id, now), "active": True})

    async def _revoke_token(self, request: Request) -> Response:
        form = await _read_form(request)
        revoked = self._project.tokens.revoke(form.get("access_token", ""), self._project.now())
        return Response(status_code=REVOKE_TOKEN.status if revoked else 404)


def _found(content: dict[str, Any] | None, resource_type: str, resource_id: str) -> Response:
    if content is None:
        raise errors.not_found(resource_type, resource_id)
    return json_answer(content)


async def _one_by_one(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _is_bulk(path: str, options: Options) -> bool:
    return path in SUBMIT_PATHS or (options.csv_imports_are_bulk and path.endswith("/importCSV"))


def _require_content_type(request: Request, expected: str) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != expected:
        raise errors.http_error(415)


async def _read_form(request: Request) -> dict[str, str]:
    _require_content_type(request, _FORM)
    body = await request.body()
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _read_limit(request: Request) -> int:
    text = request.query_params.get("limit", str(_LIST_DEFAULT))
    least, greatest = LIST_ACTIONS.bounds("limit")
    if not text.isdecimal() or not least <= int(text) <= greatest:
        raise errors.invalid_query_params(f"Property .limit must be an integer between {least} and {greatest}")
    return int(text)


def _read_end_date(request: Request) -> float | None:
    text = request.query_params.get("end_date")
    if text is None:
        return None
    try:
        moment = parse_iso_datetime(text)
    except ValueError:
        details = "Property .end_date cannot be recognized as a ISO-8601 compliant date"
        raise errors.invalid_query_params(details) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


async def _answer_api_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, errors.ApiError):
        raise error
    return json_answer(error.body, error.status)


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return json_answer(errors.http_error(error.status_code).body, error.status_code)
