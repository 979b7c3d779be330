"""The routes of exports. As with the vendor, a file has the path of its export, with a token, on the download host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_voucherify.local_voucherify import errors
from airflow_provider_voucherify.local_voucherify.contract import Operation
from airflow_provider_voucherify.local_voucherify.endpoints import (
    CREATE_EXPORT,
    GET_EXPORT,
    LIST_EXPORTS,
    REMOVE_EXPORT,
)
from airflow_provider_voucherify.local_voucherify.export_requests import read_request
from airflow_provider_voucherify.local_voucherify.record_routes import json_answer, read_object
from airflow_provider_voucherify.local_voucherify.single_records import integer
from airflow_provider_voucherify.local_voucherify.state import Project

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


def export_routes(
    project: Project, guarded: Callable[[Operation, Handler], Handler], permit: Callable[[Request, str | None], None]
) -> list[Route]:
    """
    Return the routes.

    :param guarded: lets a handler be called only with the credentials that a call needs.
    :param permit: raises if a request for a file is not permitted, given the scope that it needs.
    """
    routes = _ExportRoutes(project, permit)
    get = guarded(GET_EXPORT, routes.get)

    async def get_or_download(request: Request) -> Response:
        return await (routes.download(request) if "token" in request.query_params else get(request))

    return [
        Route(CREATE_EXPORT.path, guarded(CREATE_EXPORT, routes.create), methods=["POST"]),
        Route(LIST_EXPORTS.path, guarded(LIST_EXPORTS, routes.list), methods=["GET"]),
        Route(GET_EXPORT.path, get_or_download, methods=["GET"]),
        Route(REMOVE_EXPORT.path, guarded(REMOVE_EXPORT, routes.remove), methods=["DELETE"]),
    ]


class _ExportRoutes:
    def __init__(self, project: Project, permit: Callable[[Request, str | None], None]) -> None:
        self._project = project
        self._permit = permit

    async def create(self, request: Request) -> Response:
        created = self._project.create_export(read_request(await read_object(request)))
        return json_answer(created)

    async def list(self, request: Request) -> Response:
        query, project = request.query_params, self._project
        limit = integer(query, "limit", 10, *LIST_EXPORTS.bounds("limit"))
        page = integer(query, "page", 1, *LIST_EXPORTS.bounds("page"))
        order = query.get("order", "-created_at")
        if order not in LIST_EXPORTS.choices("order"):
            raise errors.invalid_query_params("Property .order must be one of the allowed values")
        with project.lock:
            exports, now = project.exports.ordered(order, project.now()), project.now()
            shown = [project.exports.shown(one, now) for one in exports[(page - 1) * limit : page * limit]]
        return json_answer({"object": "list", "data_ref": "exports", "exports": shown, "total": len(exports)})

    async def get(self, request: Request) -> Response:
        export_id: str = request.path_params["exportId"]
        with self._project.lock:
            export = self._project.exports.get(export_id)
            if export is None:
                raise errors.not_found("export", export_id)
            return json_answer(self._project.exports.shown(export, self._project.now()))

    async def remove(self, request: Request) -> Response:
        export_id: str = request.path_params["exportId"]
        with self._project.lock:
            if not self._project.exports.remove(export_id):
                raise errors.not_found("export", export_id)
        return Response(status_code=REMOVE_EXPORT.status)

    async def download(self, request: Request) -> Response:
        """Send a file; such a download is not an API call and counts towards no limit."""
        self._permit(request, GET_EXPORT.scope if self._project.options.exports_need_auth else None)
        token, now = request.query_params["token"], self._project.now()
        with self._project.lock:
            file = self._project.exports.file(request.path_params["exportId"], token, now)
        if file is None:
            raise errors.unauthorized()
        return StreamingResponse(file.chunks(), media_type="text/csv")
