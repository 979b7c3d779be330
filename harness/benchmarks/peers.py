"""
The floor below which nothing can go, and what people use or write today. Runs in an environment of its own.

* ``read``: the rows are read and dropped; every other variant of the source costs that too.
* ``floor_msgspec`` and ``floor_orjson``: dicts built by hand, a C encoder over 1,000 at a time, a raw socket. Nothing
  is checked, kept on disk or written down, and a body that were refused would be lost.
* ``sdk_100`` and ``sdk_largest``: the official SDK, a model for each record, as its documentation shows.
* ``http_operator``: what a task of ``HttpOperator`` does with chunks: dicts, ``json.dumps``, ``requests``.
* ``xcom``: the same with the whole list passed from one task to another as JSON before.
* ``dlt`` and ``airbyte``: see ``pipelines``.

What sends also says what the variant itself tells of its rows: by name ``actions``, how many async actions it knows of,
and of rows ``read``, ``arrived`` and ``failed``, where it counts them.
"""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.benchmarks.rows import (
    MAX_BODY_BYTES,
    ROWS_PER_FETCH,
    Row,
    Sender,
    Source,
    cursor,
    dicts,
    largest_chunk,
    record,
    record_of_dict,
)

PATH = "/v1/customers/bulk/async"
HEADERS = {"X-App-Id": "app", "X-App-Token": "secret", "Content-Type": "application/json"}

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
Build = Callable[[Any], dict[str, Any]]


def sender(variant: str, folder: Path, chunk: int = largest_chunk()) -> Sender:
    """
    Import what a variant needs and return what sends a source's rows to a URL.

    :param folder: for what a variant keeps.
    :param chunk: records of a request, where a variant sends as many as fit.
    """
    match variant:
        case "read":
            return _read
        case "floor_msgspec":
            import msgspec

            return _floor(msgspec.json.Encoder().encode, msgspec.json.Decoder().decode)
        case "floor_orjson":
            import orjson

            return _floor(orjson.dumps, orjson.loads)
        case "sdk_100":
            return _sdk(100)
        case "sdk_largest":
            return _sdk(chunk)
        case "http_operator":
            return _http_operator(chunk, through_xcom=False)
        case "xcom":
            return _http_operator(chunk, through_xcom=True)
        case "dlt" | "airbyte":
            from harness.benchmarks import pipelines

            make = {"dlt": pipelines.dlt_sender, "airbyte": pipelines.airbyte_sender}[variant]
            return make(_pages, _poster(), chunk, folder)
        case "metadata_records":
            return _metadata_records()
    raise ValueError(variant)


def _read(source: Source, url: str) -> None:
    import msgspec

    with _rows(source, msgspec.json.Decoder().decode) as (rows, _):
        for _ in rows:
            pass


def _floor(encode: Encode, decode: Decode) -> Sender:
    def send(source: Source, url: str) -> None:
        with _RawConnection(url) as connection:
            body = bytearray(b"[")
            with _records(source, decode) as batches:
                for batch in batches:
                    encoded = encode(batch)
                    if len(body) + len(encoded) - 1 > MAX_BODY_BYTES:
                        connection.post(body)
                        body = bytearray(b"[")
                    body += memoryview(encoded)[1:-1]
                    body += b","
            connection.post(body)

    return send


class _RawConnection:
    """One connection to which bodies are written as they are."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        lines = [f"POST {PATH} HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in HEADERS.items())]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()

    def __enter__(self) -> _RawConnection:
        self._socket = socket.create_connection(self._address)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def post(self, body: bytearray) -> None:
        """Send a body whose last byte is a comma too many."""
        body[-1:] = b"]"
        self._socket.sendall(self._head + b"%d\r\n\r\n" % len(body))
        self._socket.sendall(body)
        answer = b""
        while b"}" not in answer:
            answer += self._socket.recv(65_536)
        if not answer.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(answer.decode())


def _sdk(chunk: int) -> Sender:
    from voucherify import ApiClient, Configuration, CustomersApi
    from voucherify.models.customers_update_in_bulk_request_body import CustomersUpdateInBulkRequestBody
    from voucherify.models.customers_update_in_bulk_request_body_address import (
        CustomersUpdateInBulkRequestBodyAddress,
    )

    def model(row: Row) -> CustomersUpdateInBulkRequestBody:
        source_id, name, email, line_1, city, state, country, postal_code, tier, ltv, orders, vip, last_order = row
        return CustomersUpdateInBulkRequestBody(
            source_id=source_id,
            name=name,
            email=email,
            address=CustomersUpdateInBulkRequestBodyAddress(
                line_1=line_1, city=city, state=state, country=country, postal_code=postal_code
            ),
            metadata={"tier": tier, "ltv": ltv, "orders": orders, "vip": vip, "last_order": last_order},
        )

    def send(source: Source, url: str) -> dict[str, float]:
        client = ApiClient(Configuration(host=url))
        client.set_default_header("X-App-Id", "app")
        client.set_default_header("X-App-Token", "secret")
        api = CustomersApi(client)
        answers: list[Any] = []
        with _rows(source, json.loads) as (batches, _):
            for rows in _chunks((row for batch in batches for row in batch), chunk):
                answers.append(api.update_customers_in_bulk([model(row) for row in rows]).async_action_id)
        return {"actions": len(answers)}

    return send


def _http_operator(chunk: int, *, through_xcom: bool) -> Sender:
    post = _poster()

    def send(source: Source, url: str) -> dict[str, float]:
        with _records(source, json.loads) as batches:
            records: Iterable[dict[str, Any]] = (record for batch in batches for record in batch)
            if through_xcom:
                pushed = json.dumps(list(records), default=str)
                records = json.loads(pushed)
                del pushed
            answers = [post(url, some) for some in _chunks(records, chunk)]
        return {"actions": len(answers)}

    return send


def _metadata_records() -> Sender:
    """One metadata for all ids, as records of a bulk update."""
    post = _poster()

    def send(source: Source, url: str) -> None:
        for rows in _chunks(dicts(source.rows), 100_000):
            post(url, [{"source_id": r["source_id"], "metadata": {"audience": "spring"}} for r in rows])

    return send


def _poster() -> Callable[[str, list[dict[str, Any]]], str]:
    """Return what posts records as one writes it by hand, and gives the async action's id."""
    import requests

    def post(url: str, records: list[dict[str, Any]]) -> str:
        answer = requests.post(url + PATH, data=json.dumps(records, default=str), headers=HEADERS, timeout=60)
        answer.raise_for_status()
        return str(answer.json()["async_action_id"])

    return post


@contextmanager
def _pages(source: Source) -> Iterator[Iterator[list[Any]]]:
    """Give rows, 1,000 at a time."""
    with _rows(source, json.loads) as (pages, _):
        yield pages


@contextmanager
def _records(source: Source, decode: Decode) -> Iterator[Iterator[list[dict[str, Any]]]]:
    """Give records, 1,000 at a time."""
    with _rows(source, decode) as (batches, build):
        yield ([build(row) for row in rows] for rows in batches)


@contextmanager
def _rows(source: Source, decode: Decode) -> Iterator[tuple[Iterator[list[Any]], Build]]:
    """Give rows, 1,000 at a time and read in the simplest way that is fast, and what makes a record of one."""
    match source.kind:
        case "sqlite" | "postgres":
            with cursor(source) as opened:
                yield iter(lambda: opened.fetchmany(ROWS_PER_FETCH), []), record
        case "records":
            yield _chunks(dicts(source.rows), ROWS_PER_FETCH), record_of_dict
        case "jsonl":
            with open(source.where, "rb") as lines:
                yield _chunks(map(decode, lines), ROWS_PER_FETCH), record_of_dict
        case "csv":
            with open(source.where, encoding="utf-8", newline="") as text:
                reader = csv.reader(text)
                next(reader)
                yield _chunks(reader, ROWS_PER_FETCH), record


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
