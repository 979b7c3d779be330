"""What can be asked of Voucherify: each call is a value that says what to send and how to read the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from pydantic import ValidationError

from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList, OAuthToken
from airflow_provider_voucherify.models.endpoints import (
    ASYNC_ACTIONS_PATH,
    METADATA_ENDPOINTS,
    OAUTH_TOKEN_PATH,
    RESOURCES,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyUnexpectedAnswerError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Body:
    """
    A request body that can be sent more than once without being held whole in memory.

    :param length: bytes.
    :param chunks: gives the body's bytes anew each time it is called.
    """

    length: int
    chunks: Callable[[], Iterable[bytes | memoryview]]
    content_type: str = "application/json"

    @classmethod
    def of(cls, data: bytes, content_type: str = "application/json") -> Body:
        """Make a body of bytes that are in memory anyway."""
        return cls(len(data), lambda: (data,), content_type)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks():
            yield bytes(chunk)


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """
    One API call.

    :param method: HTTP method.
    :param path: path below the base URL, already quoted.
    :param parse: turns the decoded JSON of a successful answer into the call's value; raises
        ``VoucherifyUnexpectedAnswerError`` where the answer is not what the API description says.
    :param safe: whether sending it twice does no harm.
    :param query: query parameters.
    :param authorisation: ``project`` as the connection says, or ``keys`` for the call that fetches a token.
    """

    method: Literal["GET", "POST"]
    path: str
    parse: Callable[[Any], T_co]
    safe: bool
    query: Mapping[str, str] | None = None
    body: Body | None = None
    authorisation: Literal["project", "keys"] = "project"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


def bulk(endpoint: BulkEndpoint, body: Body) -> Call[str]:
    """
    Schedule a bulk or metadata update with a body that is already encoded.

    :param endpoint: from ``UPDATE_ENDPOINTS`` or ``METADATA_ENDPOINTS``.
    :param body: JSON of the endpoint's form, at most 10,485,760 bytes.
    :returns: the ``async_action_id``. Voucherify has then queued the update; nothing has been updated yet.
    """
    return Call("POST", endpoint.path, _async_action_id, safe=False, body=body)


def bulk_update(resource: str, records: Sequence[Mapping[str, Any]]) -> Call[str]:
    """
    Schedule ``POST /v1/{resource}/bulk/async``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param records: the records, sent as they are: nothing is checked, mapped or added here.
    :returns: the ``async_action_id``.
    """
    return bulk(_endpoint(UPDATE_ENDPOINTS, resource), Body.of(_encode(list(records))))


def bulk_metadata_update(resource: str, ids: Sequence[str], metadata: Mapping[str, Any]) -> Call[str]:
    """
    Schedule ``POST /v1/{resource}/metadata/async``: the same metadata for every id.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param ids: ``source_id`` of each customer or product, ``code`` of each voucher.
    :param metadata: what to set.
    :returns: the ``async_action_id``.
    """
    endpoint = _endpoint(METADATA_ENDPOINTS, resource)
    if isinstance(ids, str):
        raise VoucherifyConfigurationError("ids must be a list of strings, not one string")
    return bulk(endpoint, Body.of(_encode({str(endpoint.ids_field): list(ids), "metadata": dict(metadata)})))


def get_async_action(async_action_id: str) -> Call[AsyncAction]:
    """
    Get one async action, with its result once it has finished.

    :param async_action_id: ``aa_…``.
    """
    return Call("GET", f"{ASYNC_ACTIONS_PATH}/{quote(async_action_id, safe='')}", _async_action, safe=True)


def list_async_actions(limit: int = 100, end_date: str | None = None) -> Call[AsyncActionList]:
    """
    List the project's async actions, newest first, without their results.

    :param limit: 1 to 100.
    :param end_date: ISO-8601 time; only actions scheduled before it. The API has no other filter and no cursor.
    """
    query = {"limit": str(limit)} | ({"end_date": end_date} if end_date else {})
    return Call("GET", ASYNC_ACTIONS_PATH, _async_action_list, safe=True, query=query)


def oauth_token(scope: str) -> Call[OAuthToken]:
    """
    Trade the API keys for a token (OAuth 2.0 client credentials, the vendor's v1).

    :param scope: space-separated scopes.
    """
    form = urlencode({"grant_type": "client_credentials", "scope": scope}).encode()
    body = Body.of(form, "application/x-www-form-urlencoded")
    return Call("POST", OAUTH_TOKEN_PATH, _oauth_token, safe=True, body=body, authorisation="keys")


def _endpoint(table: Mapping[str, BulkEndpoint], resource: str) -> BulkEndpoint:
    try:
        return table[resource]
    except KeyError:
        raise VoucherifyConfigurationError(
            f"unknown resource {resource!r}: it must be one of {', '.join(RESOURCES)}"
        ) from None


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise VoucherifyConfigurationError(f"this cannot be sent as JSON: {error}") from None


def _async_action_id(answer: Any) -> str:
    if isinstance(answer, dict) and isinstance(answer.get("async_action_id"), str) and answer["async_action_id"]:
        return str(answer["async_action_id"])
    raise VoucherifyUnexpectedAnswerError("the answer has no async_action_id")


def _async_action(answer: Any) -> AsyncAction:
    return _validated(AsyncAction, answer)


def _async_action_list(answer: Any) -> AsyncActionList:
    return _validated(AsyncActionList, answer)


def _oauth_token(answer: Any) -> OAuthToken:
    return _validated(OAuthToken, answer)


def _validated(model: type[T], answer: Any) -> T:
    try:
        return model.model_validate(answer)  # type: ignore[attr-defined,no-any-return]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:3])
        raise VoucherifyUnexpectedAnswerError(f"the answer is no {model.__name__}: {wrong}") from None
