"""Customers one by one and in lists, through both clients."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_voucherify.client import customers, vouchers
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import (
    VoucherifyBadRequestError,
    VoucherifyConfigurationError,
    VoucherifyNotFoundError,
)
from airflow_provider_voucherify.models.records import Customer

Connect = Callable[..., Any]
ANN = {"source_id": "c1", "name": "Ann", "address": {"city": "Łódź"}, "metadata": {"tier": "gold"}}


def body(server: LocalVoucherify, method: str) -> Any:
    """What the last request of a method sent."""
    return json.loads([r for r in server.received if r.method == method][-1].body or b"")


def test_a_customer_is_created_read_changed_and_deleted(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)

    created = client.send(customers.create_customer(ANN))
    assert body(server, "POST") == ANN
    assert (created.source_id, created.name, created.address.city) == ("c1", "Ann", "Łódź")
    assert created.id.startswith("cust_")

    assert client.send(customers.get_customer("c1")) == created
    assert client.send(customers.get_customer(created.id)) == created

    changed = client.send(customers.update_customer("c1", {"name": "Anna"}))
    assert body(server, "PUT") == {"name": "Anna"}
    assert (changed.name, changed.metadata) == ("Anna", {"tier": "gold"})

    assert client.send(customers.delete_customer("c1")) is None
    with pytest.raises(VoucherifyNotFoundError, match="Cannot find customer with id c1"):
        client.send(customers.get_customer("c1"))
    with pytest.raises(VoucherifyNotFoundError):
        client.send(customers.delete_customer("c1"))


def test_creating_a_customer_that_exists_updates_it(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    first = client.send(customers.create_customer(ANN))

    by_source_id = client.send(customers.create_customer({"source_id": "c1", "name": "Anna"}))
    by_id = client.send(customers.create_customer({"id": first.id, "phone": "+48 1"}))

    assert by_source_id.id == by_id.id == first.id
    assert (by_id.name, by_id.phone, by_id.metadata) == ("Anna", "+48 1", {"tier": "gold"})


def test_a_customer_can_do_without_a_source_id(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)

    created = client.send(customers.create_customer({"name": "Somebody"}))

    assert created.source_id is None
    assert "source_id" not in created.to_dict()
    assert client.send(customers.get_customer(created.id)).name == "Somebody"


def test_what_was_read_is_written_back_without_blanking_anything(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    client.send(customers.create_customer(ANN))

    read = client.send(customers.get_customer("c1"))
    client.send(customers.update_customer("c1", read.model_copy(update={"name": "Anna"})))

    assert body(server, "PUT") == {"name": "Anna", "address": {"city": "Łódź"}, "metadata": {"tier": "gold"}}


def test_of_a_model_null_is_sent_only_where_the_api_takes_it(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    client.send(customers.create_customer({"source_id": "c1"}))

    client.send(customers.update_customer("c1", Customer(id="c", name=None, address=None, metadata={"a": None})))

    assert body(server, "PUT") == {"address": None, "metadata": {"a": None}}


def test_a_mapping_is_sent_as_it_is(unjudged: LocalVoucherify, connect_to: Connect) -> None:
    with pytest.raises(VoucherifyBadRequestError, match=r"Property \.name must be a string"):
        connect_to(unjudged).send(customers.create_customer({"source_id": "c1", "name": None}))
    assert body(unjudged, "POST") == {"source_id": "c1", "name": None}


class TestTheDeprecatedBirthday:
    def test_a_mapping_s_is_sent_with_a_warning(self, server: LocalVoucherify, connect_to: Connect) -> None:
        with pytest.warns(DeprecationWarning, match="birthday is deprecated by Voucherify; use birthdate") as warned:
            call = customers.create_customer({"source_id": "c1", "birthday": "1990-01-02"})
        created = connect_to(server).send(call)

        assert warned[0].filename == __file__
        assert body(server, "POST") == {"source_id": "c1", "birthday": "1990-01-02"}
        assert created.date_of_birth == "1990-01-02"

    def test_of_a_model_birthdate_goes_first_and_nothing_is_warned_of(
        self, server: LocalVoucherify, connect_to: Connect
    ) -> None:
        client = connect_to(server)
        created = client.send(customers.create_customer({"source_id": "c1", "birthdate": "1990-01-02"}))
        assert created.birthday == "1990-01-02"

        client.send(customers.update_customer("c1", created))

        assert body(server, "PUT") == {"birthdate": "1990-01-02", "address": None}

    def test_a_model_with_nothing_else_keeps_it(self, server: LocalVoucherify) -> None:
        with pytest.warns(DeprecationWarning, match="birthday"):
            call = customers.update_customer("c1", Customer(id="c", birthday="1990-01-02"))

        assert call.body is not None
        assert b"".join(call.body) == b'{"birthday":"1990-01-02"}'

    def test_each_is_read_as_it_was_answered(self) -> None:
        both = Customer(id="c", birthday="2022-01-02", birthdate="2022-01-01")

        assert both.to_dict() == {"id": "c", "birthday": "2022-01-02", "birthdate": "2022-01-01"}
        assert both.date_of_birth == "2022-01-01"
        assert Customer(id="c", birthday="2022-01-02").to_dict() == {"id": "c", "birthday": "2022-01-02"}


def test_a_customer_is_deleted_for_good(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    customer = client.send(customers.create_customer(ANN))
    server.add_activity("c1")

    deletion = client.send(customers.delete_customer_permanently("c1"))

    assert (deletion.related_object_id, deletion.status) == (customer.id, "DONE")
    assert (deletion.data_json["customer"], deletion.data_json["events"]) == (1, 2)
    assert "c1" not in server.customers


@pytest.mark.parametrize("source_id", ["a b?c#d%e", "ann@example.com", "Zażółć", "+&=;,", "%2F", "..x"])
def test_an_id_is_one_segment_of_the_path_whatever_it_holds(
    server: LocalVoucherify, connect_to: Connect, source_id: str
) -> None:
    client = connect_to(server)
    client.send(customers.create_customer({"source_id": source_id}))

    assert client.send(customers.get_customer(source_id)).source_id == source_id
    assert client.send(customers.update_customer(source_id, {"name": "x"})).name == "x"
    client.send(customers.delete_customer(source_id))
    assert len(server.customers) == 0


def test_a_slash_in_an_id_is_no_slash_of_the_path(unjudged: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(unjudged)
    client.send(customers.create_customer({"source_id": "a/b/segments"}))

    assert client.send(customers.get_customer("a/b/segments")).source_id == "a/b/segments"


@pytest.mark.parametrize("nothing", ["", ".", "..", None, 7])
def test_what_is_no_id_is_refused_before_sending(nothing: Any) -> None:
    for call in (customers.get_customer, customers.delete_customer, customers.delete_customer_permanently):
        with pytest.raises(VoucherifyConfigurationError, match="is not an id"):
            call(nothing)


class TestLists:
    @pytest.fixture
    def shop(self, server: LocalVoucherify, connect_to: Connect) -> Any:
        client = connect_to(server)
        for number, city in enumerate(["Łódź", "Oslo", "Łódź"]):
            client.send(
                customers.create_customer(
                    {"source_id": f"c{number}", "email": f"{number}@x", "name": "N", "address": {"city": city}}
                )
            )
        return client

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            ({}, ["c0", "c1", "c2"]),
            ({"order": "-source_id"}, ["c2", "c1", "c0"]),
            ({"order": "source_id", "limit": 2, "page": 2}, ["c2"]),
            ({"city": "Łódź"}, ["c0", "c2"]),
            ({"email": "1@x"}, ["c1"]),
            ({"name": "nobody"}, []),
            ({"created_at_before": "2020-01-01"}, []),
            ({"created_at_after": datetime(2020, 1, 1, tzinfo=UTC), "city": "Oslo"}, ["c1"]),
            ({"updated_at_before": datetime(2020, 1, 1)}, []),
            ({"updated_at_after": "2020-01-01T00:00:00.000Z"}, []),
            ({"order": "created_at", "starting_after": "2020-01-01"}, ["c0", "c1", "c2"]),
            ({"starting_after": "2020-01-01"}, []),
        ],
        ids=str,
    )
    def test_a_page_is_filtered_and_ordered(self, shop: Any, filters: dict[str, Any], found: list[str]) -> None:
        page = shop.send(customers.list_customers(**filters))

        ids = [customer.source_id for customer in page.customers]
        assert (ids if "order" in filters else sorted(ids)) == found

    def test_by_segment(self, server: LocalVoucherify, shop: Any) -> None:
        segment_id = server.add_segment("Northerners", ["c1"])

        page = shop.send(customers.list_customers(segment_id=segment_id))

        assert [customer.source_id for customer in page.customers] == ["c1"]
        assert (page.total, page.has_more) == (1, False)

    def test_a_misspelled_filter_is_refused_before_sending(self) -> None:
        with pytest.raises(VoucherifyConfigurationError, match="unknown filter emial"):
            customers.list_customers(emial="x")  # type: ignore[call-arg]
        with pytest.raises(VoucherifyConfigurationError, match="unknown filter limit"):
            customers.all_customers(limit=5)  # type: ignore[call-arg]

    def test_what_the_api_refuses_is_told(self, unjudged: LocalVoucherify, connect_to: Connect) -> None:
        with pytest.raises(VoucherifyBadRequestError, match="must be an integer between 1 and 100"):
            connect_to(unjudged).send(customers.list_customers(limit=101))

    @pytest.mark.parametrize("order", ["created_at", "-created_at", "updated_at", "-updated_at", "source_id"])
    def test_all_are_listed_however_many_share_a_time(
        self, server: LocalVoucherify, connect_to: Connect, order: str
    ) -> None:
        client = connect_to(server)
        for start in (0, 350, 351):
            records = [{"source_id": f"{start + n:04}"} for n in range(1 if start == 350 else 250)]
            client.bulk_update("customers", records)
            assert server.customers

        found = [customer.source_id for customer in client.iterate(customers.all_customers(order=order))]

        assert sorted(found) == sorted(server.customers)

    @pytest.mark.parametrize("updated", [range(0), range(0, 300, 2), range(150, 300), range(300)], ids=str)
    def test_by_update_those_that_were_never_updated_are_listed_too(
        self, server: LocalVoucherify, connect_to: Connect, updated: range
    ) -> None:
        client = connect_to(server)
        client.bulk_update("customers", [{"source_id": f"{n:04}"} for n in range(300)])
        time.sleep(0.005)
        client.bulk_update("customers", [{"source_id": f"{n:04}", "name": "N"} for n in updated])
        assert len(server.customers) == 300

        found = list(client.iterate(customers.all_customers(order="updated_at")))

        assert sorted(str(one.source_id) for one in found) == sorted(server.customers)
        assert [one.updated_at is None for one in found] == [False] * len(updated) + [True] * (300 - len(updated))

    def test_a_filter_by_update_asks_for_updated_ones_alone(self, server: LocalVoucherify, connect_to: Connect) -> None:
        client = connect_to(server)
        client.bulk_update("customers", [{"source_id": "c1"}, {"source_id": "c2"}])
        client.bulk_update("customers", [{"source_id": "c2", "name": "N"}])

        listing = customers.all_customers(order="updated_at", updated_at_after="2020-01-01")

        assert [one.source_id for one in client.iterate(listing)] == ["c2"]

    def test_filters_go_with_every_page(self, server: LocalVoucherify, connect_to: Connect) -> None:
        client = connect_to(server)
        client.bulk_update("customers", [{"source_id": f"{n:04}", "name": "xy"[n % 2]} for n in range(300)])

        found = list(client.iterate(customers.all_customers(name="x", created_at_after="2020-01-01")))

        assert len(found) == 150
        assert all("name=x" in r.query for r in server.requests("GET", "/v1/customers"))


class TestWhatIsKnownOfACustomer:
    def test_activity(self, server: LocalVoucherify, connect_to: Connect) -> None:
        client = connect_to(server)
        client.send(customers.create_customer(ANN))
        ids = [server.add_activity("c1", "customer.custom_event", number=n) for n in range(250)]

        page = client.send(customers.list_customer_activity("c1", limit=2, order="created_at"))
        everything = list(client.iterate(customers.all_customer_activity("c1", order="created_at")))
        created = list(client.iterate(customers.all_customer_activity("c1", type="customer.created")))
        none = client.send(customers.list_customer_activity("c1", end_date="2020-01-01"))

        assert [one.type for one in page.data] == ["customer.created", "customer.custom_event"]
        assert (page.has_more, page.more_starting_after) == (True, ids[0])
        assert [one.id for one in everything[1:]] == ids
        assert [one.type for one in created] == ["customer.created"]
        assert none.data == []

    def test_the_old_list_of_activities_is_there_with_a_warning(
        self, server: LocalVoucherify, connect_to: Connect
    ) -> None:
        client = connect_to(server)
        client.send(customers.create_customer(ANN))

        with pytest.warns(DeprecationWarning, match="use list_customer_activity"):
            call = customers.list_customer_activities("c1", limit=5, order="-created_at", start_date="2020-01-01")

        assert [one.type for one in client.send(call).data] == ["customer.created"]

    def test_segments(self, server: LocalVoucherify, connect_to: Connect) -> None:
        client = connect_to(server)
        client.send(customers.create_customer(ANN))
        segment_id = server.add_segment("Gold", ["c1", "c2"])

        [segment] = client.send(customers.list_customer_segments("c1")).data

        assert (segment.id, segment.name) == (segment_id, "Gold")
        assert client.send(customers.list_customer_segments("nobody")).data == []

    def test_redeemables(self, server: LocalVoucherify, connect_to: Connect) -> None:
        client = connect_to(server)
        customer = client.send(customers.create_customer(ANN))
        for number in range(120):
            server.add_voucher(f"V{number:03}", holder_id=customer.id)
        server.add_voucher("ELSE")

        held = list(client.iterate(customers.all_customer_redeemables("c1")))
        page = client.send(
            customers.list_customer_redeemables(
                "c1", limit=1, order="-id", filters={"holder_role": {"conditions": {"$is": "OWNER"}}}
            )
        )

        assert [one.redeemable["voucher"]["code"] for one in held] == [f"V{number:03}" for number in range(120)]
        assert page.data[0].redeemable["voucher"]["code"] == "V119"
        assert len(list(client.iterate(vouchers.all_vouchers(customer="c1")))) == 120


class TestTheRemovedConsents:
    CONSENTS = {"unsubscribed": True}  # noqa: RUF012

    def test_what_voucherify_answers_is_passed_on(self, server: LocalVoucherify, connect_to: Connect) -> None:
        client = connect_to(server)
        client.send(customers.create_customer(ANN))

        with pytest.warns(DeprecationWarning, match="removed by Voucherify in 2024"):
            call = customers.update_customers_consents("c1", self.CONSENTS)
        with pytest.raises(VoucherifyNotFoundError, match=r"PUT .*/v1/customers/c1/consents was answered with 404"):
            client.send(call)

        assert body(server, "PUT") == self.CONSENTS

    def test_a_project_that_still_takes_them_gets_them(self, server: LocalVoucherify, connect_to: Connect) -> None:
        server.misbehave("/v1/customers/c1/consents", Status(204, b""))

        with pytest.warns(DeprecationWarning, match="removed"):
            call = customers.update_customers_consents("c1", self.CONSENTS)

        assert connect_to(server).send(call) is None
