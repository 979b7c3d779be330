"""Calls are values that say what to send and how to read the answer. Here: bulk calls, async actions, schemas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from pydantic import ValidationError

from airflow_provider_voucherify.client.rate_limits import Bucket
from airflow_provider_voucherify.models.async_action import (
    AsyncAction,
    AsyncActionList,
    decode_action,
    decode_action_list,
    decode_status,
)
from airflow_provider_voucherify.models.endpoints import (
    ASYNC_ACTIONS_PATH,
    METADATA_ENDPOINTS,
    METADATA_SCHEMA_NAMES,
    METADATA_SCHEMAS_PATH,
    RESOURCES,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.models.errors import (
    VoucherifyConfigurationError,
    VoucherifyError,
    VoucherifyUnexpectedAnswerError,
)
from airflow_provider_voucherify.models.metadata_schema import MetadataSchema, MetadataSchemaList

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Body:
    """
    A request body that can be sent more than once and need not be in memory as a whole.

    :param length: bytes.
    :param chunks: returns the body's bytes from the beginning each time it is called.
    """

    length: int
    chunks: Callable[[], Iterable[bytes | memoryview]]
    content_type: str = "application/json"

    @classmethod
    def of(cls, data: bytes, content_type: str = "application/json") -> Body:
        """Make a body of bytes in memory."""
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
        ``VoucherifyUnexpectedAnswerError`` if the answer is not what the API description says.
    :param safe: whether sending it twice does no harm.
    :param query: query parameters; one with several values is given several times.
    :param authorisation: ``project`` as the connection says, or ``keys`` for the calls about tokens.
    :param bucket: the rate limit that it draws from; ``client.budgets`` says how certain that is.
    :param empty: a successful answer has no body (204); ``parse`` is always given None.
    :param gone_is_done: a 404 after an attempt that may have been accepted counts as success: that attempt did it.
    :param large: a successful answer may be large, such as one with the errors of a whole batch.
    :param secrets: parts of the request that no error or log may show.
    :param decode: decodes the JSON of a successful answer, or as much of it as ``parse`` needs; raises the errors of
        ``msgspec.json.decode``.
    :param advise: returns what to do about an error that only this call can explain; None for any other.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    parse: Callable[[Any], T_co]
    safe: bool
    query: Mapping[str, str | Sequence[str]] | None = None
    body: Body | None = None
    authorisation: Literal["project", "keys"] = "project"
    bucket: Bucket = "api_calls"
    empty: bool = False
    gone_is_done: bool = False
    large: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    decode: Callable[[bytes], object] = msgspec.json.decode
    advise: Callable[[VoucherifyError], str | None] = field(default=lambda error: None, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.query, doseq=True)}" if self.query else self.path


def bulk(endpoint: BulkEndpoint, body: Body) -> Call[str]:
    """
    Schedule a bulk or metadata update with a body that is already encoded.

    :param endpoint: from ``UPDATE_ENDPOINTS`` or ``METADATA_ENDPOINTS``.
    :param body: JSON of the endpoint's form, at most 10,485,760 bytes.
    :returns: the ``async_action_id``. Voucherify has then queued the update; nothing has been updated yet.
    """
    return Call("POST", endpoint.path, async_action_id_of, safe=False, body=body, bucket="bulk_api_calls")


def bulk_update(resource: str, records: Sequence[Mapping[str, Any]]) -> Call[str]:
    """
    Schedule ``POST /v1/{resource}/bulk/async``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param records: the records, sent as they are: not checked, mapped or completed.
    :returns: the ``async_action_id``.
    """
    return bulk(_endpoint(UPDATE_ENDPOINTS, resource), Body.of(encode(list(records))))


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
    return bulk(endpoint, Body.of(encode({str(endpoint.ids_field): list(ids), "metadata": dict(metadata)})))


def update_customers_in_bulk(customers: Sequence[Mapping[str, Any]]) -> Call[str]:
    """
    Queue an update of customers (``POST /v1/customers/bulk/async``); unknown ones are created.

    :param customers: records with ``source_id`` and the fields to update; at most 10,485,760 bytes as JSON.
    :returns: the ``async_action_id``.
    """
    return bulk_update("customers", customers)


def update_products_in_bulk(products: Sequence[Mapping[str, Any]]) -> Call[str]:
    """
    Queue an update of products (``POST /v1/products/bulk/async``); unknown ones are created.

    :param products: records with ``source_id`` and the fields to update (``price`` in minor units).
    :returns: the ``async_action_id``.
    """
    return bulk_update("products", products)


def update_vouchers_in_bulk(vouchers: Sequence[Mapping[str, Any]]) -> Call[str]:
    """
    Queue an update of vouchers' metadata (``POST /v1/vouchers/bulk/async``); unknown codes are not created.

    :param vouchers: records with ``code`` and ``metadata``, which is all that this endpoint takes.
    :returns: the ``async_action_id``.
    """
    return bulk_update("vouchers", vouchers)


def update_customers_metadata_in_bulk(source_ids: Sequence[str], metadata: Mapping[str, Any]) -> Call[str]:
    """
    Queue one metadata update for many customers (``POST /v1/customers/metadata/async``).

    :returns: the ``async_action_id``.
    """
    return bulk_metadata_update("customers", source_ids, metadata)


def update_products_metadata_in_bulk(source_ids: Sequence[str], metadata: Mapping[str, Any]) -> Call[str]:
    """
    Queue one metadata update for many products (``POST /v1/products/metadata/async``).

    :returns: the ``async_action_id``.
    """
    return bulk_metadata_update("products", source_ids, metadata)


def update_vouchers_metadata_in_bulk(codes: Sequence[str], metadata: Mapping[str, Any]) -> Call[str]:
    """
    Queue one metadata update for many vouchers (``POST /v1/vouchers/metadata/async``).

    :returns: the ``async_action_id``.
    """
    return bulk_metadata_update("vouchers", codes, metadata)


def get_async_action(async_action_id: str) -> Call[AsyncAction]:
    """
    Get an async action, with its result once it has finished (``DONE`` is not success).

    :param async_action_id: ``aa_…``.
    """
    path = f"{ASYNC_ACTIONS_PATH}/{quote(async_action_id, safe='')}"
    return Call("GET", path, _async_action, safe=True, large=True, decode=decode_action)


def async_action_status(async_action_id: str) -> Call[AsyncAction]:
    """Get one async action without its result, which is not needed while waiting."""
    return replace(get_async_action(async_action_id), decode=decode_status)


def list_async_actions(limit: int = 100, end_date: str | None = None) -> Call[AsyncActionList]:
    """
    List the project's async actions, newest first, without their results.

    :param limit: 1 to 100.
    :param end_date: ISO-8601 time; only actions scheduled before it. The API has no other filter and no cursor.
    """
    query = {"limit": str(limit)} | ({"end_date": end_date} if end_date else {})
    return Call("GET", ASYNC_ACTIONS_PATH, _async_action_list, safe=True, query=query, decode=decode_action_list)


def get_metadata_schema(resource: str) -> Call[MetadataSchema]:
    """
    Get the project's schema for a resource's metadata; needs the scope ``metadata-schemas``.

    :param resource: ``customers``, ``products``, ``vouchers``, or the name of any other schema as the API has it
        (``order``, or that of a custom schema for nested objects).
    :raises VoucherifyNotFoundError: Voucherify knows no schema of that name.
    """
    name = quote(METADATA_SCHEMA_NAMES.get(resource, resource), safe="")
    return Call("GET", f"{METADATA_SCHEMAS_PATH}/{name}", _metadata_schema, safe=True)


def list_metadata_schemas() -> Call[MetadataSchemaList]:
    """
    List all metadata schemas, including the custom ones for nested objects; needs the scope ``metadata-schemas``.

    The API does not page this list.
    """
    return Call("GET", METADATA_SCHEMAS_PATH, _metadata_schema_list, safe=True)


def _endpoint(table: Mapping[str, BulkEndpoint], resource: str) -> BulkEndpoint:
    try:
        return table[resource]
    except KeyError:
        raise VoucherifyConfigurationError(
            f"unknown resource {resource!r}: it must be one of {', '.join(RESOURCES)}"
        ) from None


def encode(value: Any) -> bytes:
    """Encode a value as JSON; a value that cannot be encoded is a ``VoucherifyConfigurationError``."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise VoucherifyConfigurationError(f"the value cannot be sent as JSON: {error}") from None


def form_body(**fields: str) -> Body:
    """Make the body of a form."""
    return Body.of(urlencode(fields).encode(), "application/x-www-form-urlencoded")


def nothing(answer: Any) -> None:
    """Read an answer that has no body."""


def async_action_id_of(answer: Any) -> str:
    """Read the answer of a call that queues something; an id that could add lines to a log is refused."""
    action_id = answer.get("async_action_id") if isinstance(answer, dict) else None
    if isinstance(action_id, str) and action_id and action_id.isprintable():
        return action_id
    raise VoucherifyUnexpectedAnswerError("the answer has no async_action_id")


def _async_action(answer: Any) -> AsyncAction:
    return validated(AsyncAction, answer)


def _async_action_list(answer: Any) -> AsyncActionList:
    return validated(AsyncActionList, answer)


def _metadata_schema(answer: Any) -> MetadataSchema:
    return validated(MetadataSchema, answer)


def _metadata_schema_list(answer: Any) -> MetadataSchemaList:
    return validated(MetadataSchemaList, answer)


def validated(model: type[T], answer: Any, context: Mapping[str, Any] | None = None) -> T:
    """Read an answer as a model, or raise ``VoucherifyUnexpectedAnswerError``."""
    try:
        return model.model_validate(answer, context=context)  # type: ignore[attr-defined,no-any-return]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:3])
        raise VoucherifyUnexpectedAnswerError(f"the answer is not a valid {model.__name__}: {wrong}") from None
