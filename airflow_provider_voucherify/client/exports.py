"""Calls for exports: Voucherify writes any number of objects into one CSV file, for a few calls. See ``records``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import SecretStr

from airflow_provider_voucherify.client.advice import advice_on_export_fields
from airflow_provider_voucherify.client.calls import Call, nothing, validated
from airflow_provider_voucherify.client.paging import LAST_PAGE_OF_EXPORTS, Listing, Pages, by_page
from airflow_provider_voucherify.client.records import json_body, path_of, query_of, reader
from airflow_provider_voucherify.models.endpoints import EXPORTS_PATH
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyExportError
from airflow_provider_voucherify.models.exported_objects import EXPORTED_OBJECTS, ExportedObject
from airflow_provider_voucherify.models.exports import Export, ExportFile, ExportList
from airflow_provider_voucherify.models.times import iso


def create_export(
    exported_object: str,
    *,
    fields: Sequence[str] | None = None,
    order: str | None = None,
    filters: Mapping[str, Any] | None = None,
    campaign_id: str | None = None,
) -> Call[Export]:
    """
    Let Voucherify write a CSV file (``POST /v1/exports``); needs the OAuth scope ``exports``.

    The answer has the status ``SCHEDULED``: ask with ``get_export`` until ``is_finished``, then ``download_export``. It
    is not sent again after a failure, since a second export is a second file; it is no async action.

    :param exported_object: ``customer``, ``voucher``, ``product``, ``sku``, ``order``, ``redemption``,
        ``publication``, ``points_expiration`` or ``voucher_transactions``.
    :param fields: columns of the file, see ``models.exported_objects``; by default those that Voucherify chooses, which
        are few. ``metadata`` is a column for each property, ``metadata.<name>`` one of them.
    :param order: a field, descending with a ``-`` before it.
    :param filters: conditions in the vendor's language, such as ``{"updated_at": {"conditions": {"$after": [time]}}}``
        with a list of values, which may be datetimes (without a time zone they are taken as UTC). ``junction`` is
        ``and`` or ``or``. Sent as they are.
    :param campaign_id: only vouchers of this campaign.
    :raises VoucherifyBadRequestError: the key is ``invalid_export_fields`` if there is no such field, and the advice
        says which; or ``invalid_payload``.
    """
    exported = _exported(exported_object)
    if isinstance(fields, str):
        raise VoucherifyConfigurationError("fields must be a list of strings, not one string")
    if campaign_id is not None and exported_object != "voucher":
        raise VoucherifyConfigurationError("campaign_id is only for exports of vouchers")
    given = {
        "order": order,
        "fields": None if fields is None else list(fields),
        "filters": None if filters is None else _with_times(filters),
        "campaign_id": campaign_id,
    }
    parameters = {name: value for name, value in given.items() if value is not None}
    body = json_body({"exported_object": exported_object, **({"parameters": parameters} if parameters else {})})
    advise = partial(advice_on_export_fields, exported=exported, fields=tuple(fields or ()))
    return Call("POST", EXPORTS_PATH, reader(Export), safe=False, body=body, advise=advise)


def get_export(export_id: str) -> Call[Export]:
    """
    Get an export and its status (``GET /v1/exports/{exportId}``).

    :param export_id: ``exp_…``.
    :returns: the export; the address of its file comes without the token, see ``models.exports``.
    """
    return Call("GET", path_of("exports", export_id), reader(Export), safe=True)


def list_exports(*, limit: int = 100, page: int | None = None, order: str | None = None) -> Call[ExportList]:
    """
    Get one page of the project's exports (``GET /v1/exports``), those made in the dashboard included.

    :param limit: 1 to 100.
    :param page: 1 to 100.
    :param order: ``created_at`` or ``status``, descending with a ``-`` before it.
    """
    return _exports({"limit": limit, "page": page, "order": order})


def all_exports(*, order: str = "-created_at") -> Listing[ExportList, Export]:
    """
    List all of the project's exports, page by page; at most 10,000, the most that page numbers reach.

    :param order: see ``list_exports``; by default the newest come first.
    :raises VoucherifyUnexpectedAnswerError: the list cannot be read to its end.
    """
    pages: Pages[ExportList, Export] = Pages(
        _exports,
        lambda page: page.exports,
        lambda export: export.id,
        "exports",
        total=lambda page: page.total,
        last_page=LAST_PAGE_OF_EXPORTS,
    )
    return by_page(pages, query_of({"order": order}))


def delete_export(export_id: str) -> Call[None]:
    """
    Delete an export (``DELETE /v1/exports/{exportId}``).

    An export that does not exist is a ``VoucherifyNotFoundError``, unless an earlier attempt of the same call was not
    answered: then that attempt deleted it.

    :param export_id: ``exp_…``.
    """
    return Call("DELETE", path_of("exports", export_id), nothing, safe=True, empty=True, gone_is_done=True)


def export_file(export_id: str) -> Call[ExportFile]:
    """Get the address of an export's file, token included, which must not be shown or kept."""
    return Call("GET", path_of("exports", export_id), _file_of, safe=True)


def url_of(export_id: str, file: ExportFile) -> SecretStr:
    """
    Return the address of an export's file.

    :raises VoucherifyExportError: there is none.
    """
    what = f"the export {export_id} ({file.exported_object or 'of unknown objects'})"
    if file.status == "ERROR":
        raise VoucherifyExportError(f"{what} failed: its status is ERROR, and Voucherify gives no reason")
    if file.status != "DONE" or file.url is None:
        raise VoucherifyExportError(f"{what} has no file: its status is {file.status or 'unknown'}")
    return file.url


def _file_of(answer: Any) -> ExportFile:
    result = answer.get("result") if isinstance(answer, dict) else None
    url = result.get("url") if isinstance(result, dict) else None
    export = validated(Export, answer)
    return ExportFile(
        status=export.status,
        exported_object=export.exported_object,
        url=SecretStr(url) if isinstance(url, str) and url else None,
    )


def _exports(query: Mapping[str, Any]) -> Call[ExportList]:
    return Call("GET", EXPORTS_PATH, reader(ExportList), safe=True, query=query_of(query))


def _exported(name: str) -> ExportedObject:
    try:
        return EXPORTED_OBJECTS[name]
    except (KeyError, TypeError):
        known = ", ".join(EXPORTED_OBJECTS)
        raise VoucherifyConfigurationError(f"unknown exported object {name!r}: it must be one of {known}") from None


def _with_times(value: Any) -> Any:
    """Return filters with the datetimes among their values as the API writes times."""
    if isinstance(value, Mapping):
        return {name: _with_times(member) for name, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_with_times(member) for member in value]
    return iso(value) if isinstance(value, datetime) else value
