"""Exports: created, looked at, listed, downloaded with keys and token from the connection's own hosts, deleted."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_voucherify.client import downloads
from airflow_provider_voucherify.client.customers import create_customer
from airflow_provider_voucherify.client.exports import (
    all_exports,
    create_export,
    delete_export,
    get_export,
    list_exports,
)
from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import (
    DropAfter,
    DropBefore,
    Fault,
    LocalVoucherify,
    Status,
    Truncate,
)
from airflow_provider_voucherify.models.errors import (
    VoucherifyBadRequestError,
    VoucherifyConfigurationError,
    VoucherifyError,
    VoucherifyExportError,
    VoucherifyNoAnswerError,
    VoucherifyNotFoundError,
    VoucherifyPermissionError,
)

Connect = Callable[..., Any]
ConnectSync = Callable[..., VoucherifyClient]
Start = Callable[..., LocalVoucherify]
CREDENTIALS = {"x-app-id", "x-app-token", "authorization", "cookie"}


def exported(client: VoucherifyClient, **parameters: Any) -> str:
    """Create an export of two customers and return its id."""
    for number in (1, 2):
        client.send(create_customer({"source_id": f"c{number}", "name": f"Name {number}"}))
    return client.send(create_export("customer", **parameters)).id


def downloads_of(server: LocalVoucherify) -> list[int | None]:
    return [r.status for r in server.received if r.path.startswith("/v1/exports/") and "token=" in r.query]


def test_an_export_is_created_finished_and_deleted(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    server.next_exports(seconds=0)

    created = client.send(create_export("customer", fields=["source_id", "metadata.vip"], order="-created_at"))
    read = client.send(get_export(created.id))

    assert (created.status, created.result, created.is_finished) == ("SCHEDULED", None, False)
    assert (read.status, read.exported_object, read.is_finished, read.has_failed) == ("DONE", "customer", True, False)
    assert read.parameters["fields"] == ["source_id", "metadata.vip"]
    assert client.send(delete_export(created.id)) is None
    with pytest.raises(VoucherifyNotFoundError, match="Cannot find export"):
        client.send(get_export(created.id))


@pytest.mark.parametrize(("status", "is_finished"), [("SCHEDULED", False), ("IN_PROGRESS", False), ("ERROR", True)])
def test_what_an_export_says_of_itself(
    server: LocalVoucherify, connect_to: Connect, status: Any, is_finished: bool
) -> None:
    client = connect_to(server)
    server.next_exports(status=status)

    read = client.send(get_export(client.send(create_export("voucher")).id))

    assert (read.status, read.is_finished, read.has_failed) == (status, is_finished, status == "ERROR")
    assert read.result is None


def test_exports_are_listed(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    ids = [client.send(create_export("order")).id for _ in range(130)]

    page = client.send(list_exports(limit=20, page=2, order="created_at"))

    assert [one.id for one in page.exports] == ids[20:40]
    assert page.total == 130
    assert [one.id for one in client.iterate(all_exports())] == ids[::-1]
    assert [one.id for one in client.iterate(all_exports(order="created_at"))] == ids


def test_filters_may_have_datetimes(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    since = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    filters = {
        "junction": "or",
        "created_at": {"conditions": {"$after": [since], "$before": [datetime(2024, 6, 1)]}},
        "email": {"conditions": {"$is": ["a@b.example"]}},
    }

    export = client.send(get_export(client.send(create_export("customer", filters=filters)).id))

    assert export.parameters["filters"] == {
        "junction": "or",
        "created_at": {"conditions": {"$after": ["2024-05-01T10:00:00.000Z"], "$before": ["2024-06-01T00:00:00.000Z"]}},
        "email": {"conditions": {"$is": ["a@b.example"]}},
    }


def test_only_vouchers_are_exported_of_a_campaign(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    server.add_voucher("A", campaign_id="camp_1")
    server.add_voucher("B", campaign_id="camp_2")

    export = client.send(create_export("voucher", fields=["code"], campaign_id="camp_1"))

    assert export.parameters["campaign_id"] == "camp_1"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: create_export("customers"), "unknown exported object 'customers': it must be one of voucher, "),
        (lambda: create_export("customer", fields="name"), "a list of strings"),
        (lambda: create_export("customer", campaign_id="camp_1"), "only for exports of vouchers"),
        (lambda: create_export("customer", filters={"a": object()}), "cannot be sent as JSON"),
        (lambda: get_export(""), "is not an id"),
    ],
)
def test_what_cannot_work_is_not_sent(wrong: Callable[[], Any], said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        wrong()


@pytest.mark.parametrize(
    ("exported_object", "fields", "said"),
    [
        ("redemption", ["id", "reslut"], r"does not have 'reslut' \(did you mean 'result'\?\)\. metadata\.…"),
        ("customer", ["nmae", "xyzzy"], r"'nmae' \(did you mean 'name'\?\), 'xyzzy'\. It has name, id, "),
        ("points_expiration", ["metadata.vip"], r"points_expiration objects does not have 'metadata\.vip'\.$"),
    ],
)
def test_fields_that_there_are_not_are_named(
    unjudged: LocalVoucherify, connect_to: Connect, exported_object: str, fields: list[str], said: str
) -> None:
    with pytest.raises(VoucherifyBadRequestError, match=said) as refused:
        connect_to(unjudged).send(create_export(exported_object, fields=fields))
    assert (refused.value.status, refused.value.key) == (400, "invalid_export_fields")


def test_a_field_that_is_refused_although_it_is_documented_is_named_too(
    server: LocalVoucherify, connect_to: Connect
) -> None:
    details = "Unsupported field used. Allowed fields: name, source_id"
    server.misbehave("/v1/exports", Status(400, {"code": 400, "key": "invalid_export_fields", "details": details}))

    with pytest.raises(VoucherifyBadRequestError, match=r"does not have 'phone'\.$"):
        connect_to(server).send(create_export("customer", fields=["name", "phone", "metadata.vip"]))


def test_another_400_has_no_advice_about_fields(unjudged: LocalVoucherify, connect_to: Connect) -> None:
    with pytest.raises(VoucherifyBadRequestError, match="order should be equal") as refused:
        connect_to(unjudged).send(create_export("customer", fields=["name"], order="phone"))
    assert (refused.value.key, refused.value.advice) == ("invalid_payload", None)


def test_an_export_is_not_created_twice(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("/v1/exports", DropAfter(), times=1)
    client = connect_to(server)

    with pytest.raises(VoucherifyNoAnswerError, match="may have accepted it"):
        client.send(create_export("customer"))
    assert client.send(list_exports()).total == 1


def test_a_deletion_that_was_not_answered_counts_as_done(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    export = client.send(create_export("customer"))
    server.misbehave(f"/v1/exports/{export.id}", DropAfter(), times=1)

    assert client.send(delete_export(export.id)) is None
    assert client.send(list_exports()).total == 0


class TestScopes:
    def test_a_connection_that_does_not_export_needs_no_scope_for_it(
        self, server: LocalVoucherify, connect_to: Connect
    ) -> None:
        client = connect_to(server, auth_method="oauth")

        assert client.list_async_actions().async_actions == []
        with pytest.raises(VoucherifyPermissionError, match=r"lacks exports\. Add it to the connection's scope"):
            client.send(create_export("customer"))

    def test_a_file_is_fetched_with_an_oauth_token_beside_its_own(
        self, server: LocalVoucherify, connect_sync: ConnectSync
    ) -> None:
        client, file = connect_sync(server, auth_method="oauth", scope="customers exports"), io.BytesIO()
        export_id = exported(client)
        server.expire_tokens()

        client.download_export(export_id, file)

        assert file.getvalue().startswith(b"name,source_id\r\n")
        assert CREDENTIALS & server.received[-1].headers.keys() == {"authorization"}


class TestDownloads:
    def test_a_file_is_fetched_whole_with_the_keys(self, server: LocalVoucherify, connect_sync: ConnectSync) -> None:
        client, file = connect_sync(server), io.BytesIO(b"what was there before, longer than the file" * 10)
        export_id = exported(client, fields=["source_id", "name"])

        size = client.download_export(export_id, file)

        assert file.getvalue() == b"source_id,name\r\nc1,Name 1\r\nc2,Name 2\r\n"
        assert size == len(file.getvalue())
        assert CREDENTIALS & server.received[-1].headers.keys() == {"x-app-id", "x-app-token"}

    def test_another_host_gets_no_keys(self, start: Start, connect_sync: ConnectSync) -> None:
        server = start(report_host="separate", exports_need_auth=False)
        client, file = connect_sync(server), io.BytesIO()

        client.download_export(exported(client), file)

        assert file.getvalue().startswith(b"name,source_id\r\n")
        assert server.received[-1].headers["host"] not in server.base_url
        assert CREDENTIALS & server.received[-1].headers.keys() == set()

    def test_a_redirect_takes_no_keys_to_another_host(
        self, server: LocalVoucherify, foreign_host: LocalVoucherify, connect_sync: ConnectSync
    ) -> None:
        client, file = connect_sync(server), io.BytesIO()
        export_id = exported(client)
        foreign_host.misbehave("/", Status(200, b"name\r\n"))
        server.misbehave("export", Status(302, b"", headers={"Location": f"{foreign_host.base_url}/file?token=t"}))

        client.download_export(export_id, file)

        assert file.getvalue() == b"name\r\n"
        assert CREDENTIALS & server.received[-1].headers.keys()
        assert [CREDENTIALS & r.headers.keys() for r in foreign_host.received] == [set()]

    @pytest.mark.parametrize(
        ("host", "url", "owned"),
        [
            ("eu", "https://download.voucherify.io/v1/exports/exp_1?token=t", True),
            ("us1", "https://us1.download.voucherify.io/v1/exports/exp_1?token=t", True),
            ("us1", "https://download.voucherify.io/v1/exports/exp_1?token=t", False),
            ("eu", "https://dl.voucherify.io/v1/exports/exp_1?token=t", False),
        ],
    )
    def test_the_documented_download_host_is_the_connections_own(self, host: str, url: str, owned: bool) -> None:
        settings = ConnectionSettings.build(application_id="app", secret_key="sk-secret", host=host)

        assert settings.owns(url) is owned

    @pytest.mark.parametrize("fault", [Truncate(20), DropBefore(), DropAfter(), Status(500), Status(503)], ids=repr)
    def test_what_breaks_off_is_fetched_from_the_start(
        self, server: LocalVoucherify, connect_sync: ConnectSync, fault: Fault
    ) -> None:
        client, file = connect_sync(server), io.BytesIO()
        export_id = exported(client)
        server.misbehave("export", fault, times=3)

        client.download_export(export_id, file)

        assert len(list(csv.reader(io.StringIO(file.getvalue().decode())))) == 3
        assert len(downloads_of(server)) == 4

    def test_an_address_whose_time_is_over_is_asked_for_once_more(
        self, server: LocalVoucherify, connect_sync: ConnectSync
    ) -> None:
        client, file = connect_sync(server), io.BytesIO()
        export_id = exported(client)
        server.misbehave("export", Status(401))

        client.download_export(export_id, file)

        assert file.getvalue().startswith(b"name,")
        assert downloads_of(server) == [401, 200]
        assert len({r.query for r in server.requests("GET", f"/v1/exports/{export_id}")}) == 2

    @pytest.mark.parametrize(
        ("options", "fault", "said", "count"),
        [
            ({"export_file_seconds": 0}, None, "the export could not be fetched .status 401, it may have expired", 2),
            ({}, Status(404), "status 404, it may have expired", 2),
            ({}, Status(500), "status 500", 2),
            ({}, Truncate(3), "RemoteProtocolError", 2),
        ],
        ids=str,
    )
    def test_a_file_that_cannot_be_had_is_an_error_without_its_token(
        self,
        start: Start,
        connect_sync: ConnectSync,
        options: dict[str, Any],
        fault: Fault | None,
        said: str,
        count: int,
    ) -> None:
        server = start(**options)
        client = connect_sync(server, retry=RetryPolicy(2, 0.01))
        export_id = exported(client)
        if fault is not None:
            server.misbehave("export", fault, times=None)

        with pytest.raises(VoucherifyExportError, match=said) as raised:
            client.download_export(export_id, io.BytesIO())
        assert str(raised.value).endswith(f"/v1/exports/{export_id}")
        assert len(downloads_of(server)) == count

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            ("ERROR", r"the export exp_\w+ \(customer\) failed: its status is ERROR, and Voucherify gives no reason"),
            ("IN_PROGRESS", r"the export exp_\w+ \(customer\) has no file: its status is IN_PROGRESS"),
        ],
    )
    def test_an_export_without_a_file_says_why(
        self, server: LocalVoucherify, connect_sync: ConnectSync, status: Any, said: str
    ) -> None:
        client = connect_sync(server)
        server.next_exports(status=status)
        file = io.BytesIO(b"kept")

        with pytest.raises(VoucherifyExportError, match=said):
            client.download_export(exported(client), file)
        assert file.getvalue() == b"kept"
        assert downloads_of(server) == []

    def test_a_file_that_has_no_end_is_not_read_to_it(
        self, server: LocalVoucherify, connect_sync: ConnectSync, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = connect_sync(server)
        export_id = exported(client)
        monkeypatch.setattr(downloads, "MAX_EXPORT_BYTES", 10)

        with pytest.raises(VoucherifyExportError, match="the export is larger than 10 bytes"):
            client.download_export(export_id, io.BytesIO())

    def test_the_wrong_region_is_told(self, start: Start, connect_sync: ConnectSync) -> None:
        server = start(right_url="https://us1.api.voucherify.io")

        with pytest.raises(VoucherifyPermissionError, match="Wrong region"):
            connect_sync(server).download_export("exp_1", io.BytesIO())


@pytest.mark.parametrize(
    "url",
    ["https://x.example/v1/exports/exp_1?token=secret-token", "https://user:secret-token@x.example/1#secret-token"],
)
def test_no_model_has_the_token(server: LocalVoucherify, connect_to: Connect, url: str) -> None:
    answer = {"id": "exp_1", "object": "export", "status": "DONE", "exported_object": "order", "result": {"url": url}}
    server.misbehave("/v1/exports/exp_1", Status(200, answer))

    export = connect_to(server).send(get_export("exp_1"))

    assert export.result.url in ("https://x.example/v1/exports/exp_1", "https://x.example/1")
    assert "secret-token" not in repr(export) + str(export.to_dict()) + export.model_dump_json()


@pytest.mark.parametrize(
    "answer",
    [{}, [], {"id": "exp\n1"}, {"id": ""}, {"id": 7}],
    ids=str,
)
def test_an_answer_that_is_no_export_is_an_error(server: LocalVoucherify, connect_to: Connect, answer: Any) -> None:
    server.misbehave("/v1/exports", Status(200, answer))

    with pytest.raises(VoucherifyError, match="not a valid Export"):
        connect_to(server).send(create_export("customer"))


def test_members_of_other_types_count_as_absent(server: LocalVoucherify, connect_to: Connect) -> None:
    answer = {"id": "exp_1", "status": 7, "result": {"url": 5}, "parameters": [], "created_at": "2024-01-01"}
    server.misbehave("/v1/exports/exp_1", Status(200, answer))

    export = connect_to(server).send(get_export("exp_1"))

    assert (export.status, export.is_finished, export.parameters) == (None, False, None)
    assert export.created_at == datetime(2024, 1, 1, tzinfo=UTC).date().isoformat()
