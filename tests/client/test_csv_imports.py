"""CSV imports: the file as the body of a form, sent as it is read."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_voucherify.client.csv_imports import MAX_FILE_BYTES, import_csv
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, RateLimited, Status
from airflow_provider_voucherify.models.endpoints import MAX_BODY_BYTES
from airflow_provider_voucherify.models.errors import (
    VoucherifyConfigurationError,
    VoucherifyPayloadTooLargeError,
)

Connect = Callable[..., Any]
FILES = {
    "customers": 'Source_id,Name,segment\nc1,"Ann\nLee",vip\nc2,Zoë,\n',
    "products": "name,source_id,price\nShirt,p1,21\n",
    "skus": "product_id,source_id,sku,price\np1,s1,Shirt XS,14.5\n",
}


@pytest.mark.parametrize("resource", FILES)
def test_an_import_is_queued(server: LocalVoucherify, connect_to: Connect, resource: str) -> None:
    content = FILES[resource].encode()

    action_id = connect_to(server).send(import_csv(resource, io.BytesIO(content)))

    action = server.actions[action_id]
    assert action.endpoint.action_type == f"{resource.upper()}.IMPORT_CSV"
    assert action.record_count == {"customers": 2, "products": 1, "skus": 1}[resource]
    [request] = server.requests("POST", f"/v1/{resource}/importCSV")
    assert request.status == {"customers": 202, "products": 200, "skus": 200}[resource]
    assert request.headers["content-length"] == str(request.body_bytes_length)
    assert content in (request.body or b"")


def test_the_rows_arrive(server: LocalVoucherify, connect_to: Connect, tmp_path: Path) -> None:
    file = tmp_path / 'Zoë\'s "customers".csv'
    file.write_text(FILES["customers"], encoding="utf-8")
    client = connect_to(server)

    action = client.get_async_action(client.send(import_csv("customers", file)))

    assert action.result == {
        "message": "2 customer(s) imported successfully, 0 failed.",
        "failed": [],
        "done_count": 2,
        "failed_count": 0,
    }
    assert server.customers["c1"]["name"] == "Ann\nLee"
    assert server.customers["c1"]["metadata"] == {"segment": "vip"}
    [request] = server.requests("POST", "/v1/customers/importCSV")
    assert b"Zo\xc3\xab's" not in (request.body or b""), "the name of a local file is nobody's business"


def test_a_file_is_read_from_its_beginning_for_each_attempt(server: LocalVoucherify, connect_to: Connect) -> None:
    file = io.BytesIO(FILES["customers"].encode())
    file.seek(10)
    server.misbehave("/v1/customers/importCSV", RateLimited(0.01), times=2)

    connect_to(server).send(import_csv("customers", file))

    bodies = [request.body for request in server.requests("POST", "/v1/customers/importCSV")]
    assert len(set(bodies)) == 1
    assert file.getvalue() in (bodies[0] or b"")
    assert not file.closed


def test_a_file_that_contains_anything_arrives_as_it_is(server: LocalVoucherify, connect_to: Connect) -> None:
    content = b'Source_id,note\r\nc1,"--x\r\n--\r\n"\r\n' + "c2,\u2028é\r\n".encode() * 3

    connect_to(server).send(import_csv("customers", io.BytesIO(content)))

    assert server.customers["c1"]["metadata"]["note"] == "--x\r\n--\r\n"


@pytest.mark.parametrize("size", [0, MAX_FILE_BYTES + 1])
def test_a_file_that_is_empty_or_too_large_is_refused_before_sending(tmp_path: Path, size: int) -> None:
    file = tmp_path / "customers.csv"
    file.write_bytes(b"x" * size)

    with pytest.raises(VoucherifyConfigurationError, match=f"has {size:,} bytes, and an import takes 1 to 10,485,5"):
        import_csv("customers", file)


def test_the_largest_file_is_taken(server: LocalVoucherify, connect_to: Connect, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    head = b"Source_id\n"
    file.write_bytes(head + b"c" * (MAX_FILE_BYTES - len(head)))

    connect_to(server).send(import_csv("customers", file))

    [request] = server.received
    assert (request.body_bytes_length, request.status) == (MAX_BODY_BYTES, 202)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("/does/not/exist.csv", "cannot be read: .*No such file"),
        (io.StringIO("Source_id\n"), "opened as text"),
    ],
)
def test_what_cannot_be_read_is_said(file: Any, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        import_csv("customers", file)


def test_an_unknown_resource_is_refused() -> None:
    with pytest.raises(VoucherifyConfigurationError, match=re.escape("one of customers, products, skus")):
        import_csv("vouchers", io.BytesIO(b"x"))


def test_a_413_of_a_stricter_gateway_is_told(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("/v1/customers/importCSV", Status(413, {"statusCode": 413, "message": "too large"}))

    with pytest.raises(VoucherifyPayloadTooLargeError, match="too large"):
        connect_to(server).send(import_csv("customers", io.BytesIO(b"Source_id\nc1\n")))


def test_skus_need_a_scope_of_their_own(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server, auth_method="oauth", scope="products skus")

    client.send(import_csv("products", io.BytesIO(FILES["products"].encode())))
    client.send(import_csv("skus", io.BytesIO(FILES["skus"].encode())))

    assert server.skus["s1"]["price"] == 1450
