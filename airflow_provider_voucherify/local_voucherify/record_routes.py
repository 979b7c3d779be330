"""The routes of single customers, products and vouchers, of lists of them, and of CSV imports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_voucherify.local_voucherify import errors
from airflow_provider_voucherify.local_voucherify.contract import Operation
from airflow_provider_voucherify.local_voucherify.csv_imports import read_import
from airflow_provider_voucherify.local_voucherify.endpoints import (
    CSV_IMPORT_ENDPOINTS,
    LIST_ACTIVITIES,
    LIST_ACTIVITY,
    LIST_REDEEMABLES,
    LISTS,
    REMOVALS,
    CsvImportEndpoint,
)
from airflow_provider_voucherify.local_voucherify.misbehaviour import SUBMIT_PATHS
from airflow_provider_voucherify.local_voucherify.single_records import SingleRecords, Wire, integer
from airflow_provider_voucherify.local_voucherify.state import Project

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Guard: TypeAlias = Callable[[Operation, Handler], Handler]


def record_routes(project: Project, guarded: Guard) -> list[Route]:
    """
    Return the routes.

    :param guarded: lets a handler be called only with the credentials that a call needs.
    """
    imports = [
        Route(e.operation.path, guarded(e.operation, _import(project, e)), methods=["POST"])
        for e in CSV_IMPORT_ENDPOINTS.values()
    ]
    lists = [
        Route(o.path, guarded(o, _collection(project, resource)), methods=["GET", "POST"])
        for resource, o in LISTS.items()
    ]
    singles = [
        Route(
            f"{o.path}/{{rest:path}}",
            guarded(o, _single(project, resource)),
            methods=["GET", "POST", "PUT", "DELETE"],
        )
        for resource, o in LISTS.items()
    ]
    return [*imports, *lists, *singles]


def _import(project: Project, endpoint: CsvImportEndpoint) -> Handler:
    async def handle(request: Request) -> Response:
        rows = read_import(request.headers.get("content-type", ""), await request.body())
        action = project.schedule(endpoint, rows, errors.new_request_id())
        return json_answer({"async_action_id": action.id}, endpoint.operation.status)

    return handle


def _collection(project: Project, resource: str) -> Handler:
    records = SingleRecords(project, resource)

    async def handle(request: Request) -> Response:
        if request.method == "GET":
            every = parse_qs(request.url.query, keep_blank_values=True)
            return json_answer(records.page(request.query_params, every))
        if resource == "vouchers":
            raise errors.http_error(405)
        return json_answer(records.create(await read_object(request)))

    return handle


def _single(project: Project, resource: str) -> Handler:
    records = SingleRecords(project, resource)

    async def handle(request: Request) -> Response:
        # An id must come percent-encoded, as one segment of the path; the decoded path would not show where it ends.
        path = request.scope["raw_path"].decode("ascii")
        if path in SUBMIT_PATHS:
            raise errors.http_error(405)
        identifier, *more = map(unquote, path.split("/")[3:])
        if more:
            return _below(records, request, identifier, more) if resource == "customers" else _no_route()
        match request.method, resource:
            case "GET", _:
                return json_answer(records.get(identifier))
            case "PUT", _:
                return json_answer(records.update(identifier, await read_object(request)))
            case "DELETE", _:
                records.remove(identifier)
                return Response(status_code=REMOVALS[resource].status)
            case "POST", "vouchers":
                return json_answer(records.create_voucher(identifier, await read_object(request)))
        raise errors.http_error(405)

    return handle


def _below(records: SingleRecords, request: Request, identifier: str, more: list[str]) -> Response:
    query: Mapping[str, str] = request.query_params
    match request.method, more:
        case "POST", ["permanent-deletion"]:
            return json_answer(records.remove_permanently(identifier))
        case "GET", ["activity"]:
            return json_answer(_cut(records.activity(identifier, query), query, LIST_ACTIVITY))
        case "GET", ["activities"]:
            events = records.activity(identifier, query)
            shown = events[: integer(query, "limit", 10, *LIST_ACTIVITIES.bounds("limit"))]
            return json_answer({"object": "list", "data_ref": "data", "data": shown, "total": len(events)})
        case "GET", ["segments"]:
            segments = records.segments(identifier)
            return json_answer({"object": "list", "data_ref": "data", "data": segments, "total": len(segments)})
        case "GET", ["redeemables"]:
            held = records.redeemables(identifier, query)
            return json_answer({**_cut(held, query, LIST_REDEEMABLES), "total": len(held)})
    return _no_route()


def _cut(shown: list[Wire], query: Mapping[str, str], of: Operation) -> Wire:
    limit = integer(query, "limit", 10, *of.bounds("limit"))
    page = {"object": "list", "data_ref": "data", "data": shown[:limit], "has_more": len(shown) > limit}
    return {**page, "more_starting_after": shown[limit - 1]["id"]} if len(shown) > limit else page


def _no_route() -> Response:
    raise errors.http_error(404)


async def read_object(request: Request) -> Wire:
    """Return the JSON object that is a request's body, or raise the documented 400 or 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise errors.http_error(415)
    try:
        return msgspec.json.decode(await request.body(), type=dict[str, Any])
    except msgspec.ValidationError:
        raise errors.invalid_payload("Payload should be an object") from None
    except msgspec.DecodeError:
        raise errors.invalid_payload("Payload is not valid JSON") from None


def json_answer(content: Any, status: int = 200) -> Response:
    """Return an answer with a JSON body, an empty one for None."""
    body = b"" if content is None else msgspec.json.encode(content)
    return Response(body, status, media_type="application/json; charset=utf-8")
