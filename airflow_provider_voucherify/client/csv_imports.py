"""CSV imports: the call, and the file as its body, read as it is sent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import BinaryIO, TypeAlias

from airflow_provider_voucherify.client.calls import Body, Call, async_action_id_of
from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS, MAX_BODY_BYTES, CsvImportEndpoint
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError

CsvSource: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""A local path, or a seekable binary file."""

PART_BYTES = 65_536

_BOUNDARY = "----voucherify-{}"
_HEAD = (
    '--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="import.csv"\r\n'
    "Content-Type: text/csv\r\n\r\n"
)
_TAIL = "\r\n--{boundary}--\r\n"

FORM_BYTES = len((_HEAD + _TAIL).replace("{boundary}", _BOUNDARY.format("0" * 32)))
"""Bytes of a body in addition to the file."""

MAX_FILE_BYTES = MAX_BODY_BYTES - FORM_BYTES
"""Largest file for one import."""


def import_csv(resource: str, file: CsvSource) -> Call[str]:
    """
    Queue an import (``POST /v1/{resource}/importCSV``). When the answer arrives nothing has been imported yet.

    The file is comma-separated and has a header row. What its columns mean, and what happens to records that exist,
    differs by resource; see ``operators.import_csv``, which also splits files that are too large and waits for the
    import. The file is not kept in memory; each attempt reads it from the beginning. Its name is not sent.

    :param resource: ``customers``, ``products`` or ``skus`` (which needs the OAuth scope ``skus``).
    :param file: a path or a seekable binary file (read from its beginning, not closed) of at most 10 MB.
    :returns: the ``async_action_id``.
    :raises VoucherifyConfigurationError: the file is empty, cannot be read, is opened as text, or is too large.
    """
    try:
        size = _size(file)
    except (OSError, ValueError) as error:
        raise VoucherifyConfigurationError(f"the CSV file cannot be read: {error}") from None
    if not 0 < size <= MAX_FILE_BYTES:
        raise VoucherifyConfigurationError(
            f"the CSV file has {size:,} bytes, and an import takes 1 to {MAX_FILE_BYTES:,}"
        )
    return csv_import(import_endpoint(resource), size, lambda: _pieces(file))


def import_customers_using_csv(file: CsvSource) -> Call[str]:
    """
    Queue an import of customers (``POST /v1/customers/importCSV``).

    A customer whose ``Source_id`` is in the file is overwritten, with all fields and metadata (vendor's guide on
    importing customers): unlike in a bulk update, whatever the file does not contain is lost.

    :param file: a path or a seekable binary file of at most 10 MB; ``VoucherifyImportCsvOperator`` splits larger ones
        and waits for the import.
    :returns: the ``async_action_id``. Nothing has been imported yet.
    """
    return import_csv("customers", file)


def import_products_using_csv(file: CsvSource) -> Call[str]:
    """
    Queue an import of products (``POST /v1/products/importCSV``); see ``import_customers_using_csv``.

    Of a product that exists only the name is changed. Prices are in major units: 21 is $21.00.

    :param file: a path or a seekable binary file.
    :returns: the ``async_action_id``.
    """
    return import_csv("products", file)


def import_skus_using_csv(file: CsvSource) -> Call[str]:
    """
    Queue an import of SKUs (``POST /v1/skus/importCSV``); see ``import_customers_using_csv``.

    Their products must have been imported before. Needs the OAuth scope ``skus``. Of a SKU that exists only the name
    and the price are changed.

    :param file: a path or a seekable binary file.
    :returns: the ``async_action_id``.
    """
    return import_csv("skus", file)


def csv_import(endpoint: CsvImportEndpoint, size: int, pieces: Callable[[], Iterable[bytes]]) -> Call[str]:
    """
    Queue an import of a file that need not exist on disk.

    :param size: bytes of the file, at most ``MAX_FILE_BYTES``.
    :param pieces: returns the file's bytes from the beginning each time it is called.
    """
    boundary = _BOUNDARY.format(secrets.token_hex(16))
    head, tail = (text.format(boundary=boundary).encode() for text in (_HEAD, _TAIL))
    body = Body(
        FORM_BYTES + size, lambda: chain((head,), pieces(), (tail,)), f"multipart/form-data; boundary={boundary}"
    )
    return Call("POST", endpoint.path, async_action_id_of, safe=False, body=body, bucket="bulk_api_calls")


def import_endpoint(resource: str) -> CsvImportEndpoint:
    """Return the endpoint for a resource's CSV files."""
    try:
        return CSV_IMPORT_ENDPOINTS[resource]
    except KeyError:
        known = ", ".join(CSV_IMPORT_ENDPOINTS)
        raise VoucherifyConfigurationError(f"unknown resource {resource!r}: it must be one of {known}") from None


def _size(file: CsvSource) -> int:
    with _opened(file) as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(0)
        if not isinstance(opened.read(0), bytes):
            raise ValueError("it is opened as text, not in binary mode")
        return size


def _pieces(file: CsvSource) -> Iterator[bytes]:
    with _opened(file) as opened:
        opened.seek(0)
        while piece := opened.read(PART_BYTES):
            yield piece


def _opened(file: CsvSource) -> BinaryIO | nullcontext[BinaryIO]:
    return open(file, "rb") if isinstance(file, str | os.PathLike) else nullcontext(file)
