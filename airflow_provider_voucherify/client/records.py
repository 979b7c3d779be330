"""
What the calls about single customers, products and vouchers share; the calls are in the modules of their resources.

A mapping is sent as it is, unchecked. Of a model that was read before, the fields are sent that are set and that the
endpoint can change; null only if the API description allows it (a customer's address).

Which calls are sent again after an error or without an answer (``safe``), and why:

========================================  ====  ======================================================================
GET of anything                           yes   changes nothing
PUT                                       yes   sets the same values once more
POST of a customer or product, with id    yes   the vendor calls it an upsert: the second one updates the first's
POST of a customer or product, without    no    would create another one
DELETE of a record, revoking a token      yes   a 404 after an attempt that may have worked counts as done
permanent deletion                        no    cannot be undone, and the second answer would not have its counts
POST of a voucher                         no    a 409 would not tell whose voucher it is
CSV imports                               no    a second import is a second async action
POST of an export                         no    a second export is a second file
========================================  ====  ======================================================================

Source: documentation/openapi/customers.json, products.json, vouchers.json and oauth.json of the vendor.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from airflow_provider_voucherify.client.calls import Body, Call, encode, nothing, validated
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.models.records import ANSWER, Record
from airflow_provider_voucherify.models.times import iso

R = TypeVar("R", bound=Record)

Time: TypeAlias = "str | datetime"
"""An ISO-8601 text, or a datetime; one without a time zone is taken as UTC."""

_NULLABLE = ("address",)


def upsert(path: str, fields: Mapping[str, Any], model: type[R]) -> Call[R]:
    """Create or update a record. It is safe to repeat only with an id: without, each request creates a record."""
    return Call(
        "POST", path, reader(model), safe=bool(fields.get("id") or fields.get("source_id")), body=json_body(fields)
    )


def delete(resource: str, record_id: str, *, force: bool = False) -> Call[None]:
    """Delete a record; with ``force``, which customers do not have, for good and not into the bin."""
    query = {"force": "true"} if force else None
    path = path_of(resource, record_id)
    return Call("DELETE", path, nothing, safe=True, query=query, empty=True, gone_is_done=True)


def fields_to_send(record: Record | Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Return the fields of a record that are sent; warns about ``birthday``."""
    if isinstance(record, Record):
        known = record.to_dict()
        sent = {name: known[name] for name in fields if name in known}
        sent = {name: value for name, value in sent.items() if value is not None or name in _NULLABLE}
        if "birthdate" in sent:
            sent.pop("birthday", None)
    else:
        sent = dict(record)
    if "birthday" in sent:
        warn_deprecated("birthday is deprecated by Voucherify; use birthdate")
    return sent


def json_body(fields: Mapping[str, Any]) -> Body:
    """Make a JSON body."""
    return Body.of(encode(fields))


def path_of(resource: str, record_id: str, *more: str) -> str:
    """Return the path of a record, or of something below it; the id is quoted, so that it is one segment."""
    if not isinstance(record_id, str) or record_id in ("", ".", ".."):
        raise VoucherifyConfigurationError(f"{record_id!r} is not an id")
    return "/".join(("/v1", resource, quote(record_id, safe=""), *more))


def api_filters(filters: Mapping[str, Any], known: type) -> dict[str, Any]:
    """Return filters by the names that the API has for them."""
    if unknown := filters.keys() - known.__annotations__.keys():
        raise VoucherifyConfigurationError(f"unknown filter {', '.join(sorted(unknown))}")
    return {_API_NAMES.get(name, name): value for name, value in filters.items()}


_API_NAMES = {
    f"{time}_{side}": f"{time}[{side}]" for time in ("created_at", "updated_at") for side in ("before", "after")
}


def query_of(parameters: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Write query parameters as the API expects them; None is left out."""
    return dict(pair for name, value in parameters.items() for pair in _flat(name, value))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str | list[str]]]:
    if value is None:
        return
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _flat(f"{name}[{key}]", member)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if "[" in name:
            for index, member in enumerate(value):
                yield from _flat(f"{name}[{index}]", member)
        else:
            yield name, [str(member) for member in value]
    elif isinstance(value, bool):
        yield name, str(value).lower()
    else:
        yield name, iso(value) if isinstance(value, datetime) else str(value)


def reader(model: type[R]) -> Callable[[Any], R]:
    """Return a function that reads an answer as a model."""
    return lambda answer: validated(model, answer, ANSWER)


def warn_deprecated(message: str) -> None:
    """Warn the first caller outside this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DeprecationWarning, stacklevel=level)


_PACKAGE = __name__.partition(".")[0]
