"""
The error answers of Voucherify, one function each.

Shapes are the contract's; keys and wording are those of the vendor's examples and of its page of errors
(docs.voucherify.io/api-reference/errors). Where no wording is public the text is ours, and the function says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from http.client import responses
from typing import Any


class ApiError(Exception):
    """
    A request that is answered with an error.

    :param status: HTTP status.
    :param body: JSON body; None sends an empty one.
    """

    def __init__(self, status: int, body: Mapping[str, Any] | None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make an equal error, as for pickling."""
        return type(self), (self.status, self.body), self.__dict__.copy()


def new_request_id() -> str:
    """Return a fresh ``v-<hex>`` id, as every request of the API has one."""
    return "v-" + secrets.token_hex(9)


def unauthorized() -> ApiError:
    """Return the documented 401; it has neither ``details`` nor ``request_id``."""
    return ApiError(401, {"code": 401, "message": "Unauthorized", "key": "unauthorized"})


def wrong_region(right_url: str, answer: str) -> ApiError:
    """
    Return the error to a project of another region: the 403 of 2023 that names the right URL, or a bare 401 or 403.

    :param answer: ``403_with_url``, whose wording is ours, or ``403``, ``401``, ``404``.
    """
    if answer == "401":
        return unauthorized()
    if answer == "404":
        return http_error(404)
    if answer == "403":
        return _documented(403, "forbidden", "Forbidden", "Project is bound to different region")
    return _documented(
        403, "wrong_api_endpoint", "Wrong API endpoint", f"Your project is available at the API endpoint: {right_url}"
    )


def missing_permission(scope: str, status: int) -> ApiError:
    """Return the error for a token without the scope. That a missing scope gives a 403 is an assumption."""
    return _documented(
        status,
        "missing_required_permission",
        "Missing permission",
        f"User does not have a required permission ({scope}).",
    )


def not_found(resource_type: str, resource_id: str) -> ApiError:
    """
    Return the documented 404.

    :param resource_type: as the vendor prints it, e.g. ``customer``, ``async_action``, ``metadata schema``.
    """
    return _documented(
        404,
        "not_found",
        "Resource not found",
        f"Cannot find {resource_type} with id {resource_id}",
        resource_id=resource_id,
        resource_type=resource_type,
    )


def duplicate_found(resource_type: str, resource_id: str) -> ApiError:
    """Return the documented 409."""
    return _documented(
        409,
        "duplicate_found",
        "Duplicated resource found",
        f"Duplicated {resource_type} exists with id {resource_id}",
        resource_id=resource_id,
        resource_type=resource_type,
    )


def refused(key: str, message: str, details: str) -> ApiError:
    """Return the 400 for a record that is not what it should be."""
    return _documented(400, key, message, details)


def invalid_payload(details: str) -> ApiError:
    """Return the 400 for a body that is not what the endpoint takes."""
    return _documented(400, "invalid_payload", "Invalid payload", details)


def invalid_export_fields(allowed: Iterable[str]) -> ApiError:
    """Return the documented 400 for an export of fields that its objects do not have; it does not say which."""
    details = f"Unsupported field used. Allowed fields: {', '.join(allowed)}"
    return _documented(400, "invalid_export_fields", "Invalid Export", details)


def invalid_query_params(details: str) -> ApiError:
    """Return the documented 400 for a wrong query parameter."""
    return _documented(400, "invalid_query_params", "Invalid query params", details)


def not_enough_ids(ids_field: str, details: str) -> ApiError:
    """
    Return the 400 for an empty list of ids (documented until August 2024).

    :param ids_field: ``source_ids`` or ``codes``, which is part of the key.
    """
    return _documented(400, f"not_enough_{ids_field}", f"Not enough {ids_field}", details)


def oauth_error(key: str, message: str) -> ApiError:
    """Return a 400 of the OAuth endpoints, which has neither ``details`` nor ``request_id``."""
    return ApiError(400, {"code": 400, "key": key, "message": message})


def body_too_large(max_body_bytes: int) -> ApiError:
    """Return the 413, whose shape is the gateway's and not that of the other errors."""
    message = f"Payload content length greater than maximum allowed: {max_body_bytes}"
    return ApiError(413, {"statusCode": 413, "error": "Request Entity Too Large", "message": message})


def too_many_requests() -> ApiError:
    """Return the 429 of the vendor's example: without a key, and with a number as ``code``, not a string."""
    return ApiError(429, {"code": 429, "message": "Too many requests hit the API too quickly."})


def http_error(status: int) -> ApiError:
    """Return an error that the vendor lists by status only (404 of a path, 405, 410, 415); the message is ours."""
    return ApiError(
        status, {"code": status, "message": responses.get(status, "Unknown"), "request_id": new_request_id()}
    )


def _documented(status: int, key: str, message: str, details: str, **resource: str) -> ApiError:
    body = {
        "code": status,
        "key": key,
        "message": message,
        "details": details,
        "request_id": new_request_id(),
        **resource,
    }
    return ApiError(status, body)
