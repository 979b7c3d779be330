"""What is read of an answer: what is there, never more, never refused for a detail."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.client import customers
from airflow_provider_voucherify.models.errors import VoucherifyUnexpectedAnswerError
from airflow_provider_voucherify.models.records import Customer, CustomerList

read = customers.get_customer("c1").parse
read_list = customers.list_customers().parse

TEXT = st.sampled_from(["", "5", "ż", "true", "2026-01-01"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def test_what_is_absent_stays_absent_and_null_stays_null() -> None:
    customer = read({"id": "cust_1", "name": None, "address": {"city": "Oslo", "state": None}})

    assert customer.to_dict() == {"id": "cust_1", "name": None, "address": {"city": "Oslo", "state": None}}
    assert customer.email is None


def test_what_the_description_does_not_name_is_ignored() -> None:
    customer = read({"id": "cust_1", "loyalty_v2": {}, "address": {"planet": "Earth"}})

    assert customer.to_dict() == {"id": "cust_1", "address": {}}


@pytest.mark.parametrize(
    ("odd", "rest"),
    [
        ({"name": 5}, {}),
        ({"metadata": []}, {}),
        ({"address": "Oslo", "name": "Ann"}, {"name": "Ann"}),
        ({"address": {"city": 5, "state": "NY"}}, {"address": {"state": "NY"}}),
        ({"created_at": 0, "birthdate": []}, {}),
    ],
)
def test_a_value_of_another_type_counts_as_absent(odd: dict[str, Any], rest: dict[str, Any]) -> None:
    assert read({"id": "cust_1", **odd}).to_dict() == {"id": "cust_1", **rest}
    [listed] = read_list({"customers": [{"id": "cust_1", **odd}]}).customers
    assert listed.to_dict() == {"id": "cust_1", **rest}


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"id": None}, {"id": ""}, {"id": 7}, {"name": "Ann"}])
def test_what_has_no_id_is_no_customer(answer: Any) -> None:
    with pytest.raises(VoucherifyUnexpectedAnswerError, match="the answer is not a valid Customer"):
        read(answer)


@pytest.mark.parametrize("answer", [{}, {"customers": None}, {"customers": {}}, {"customers": [{"name": "Ann"}]}, []])
def test_a_list_is_read_whole_or_not_at_all(answer: Any) -> None:
    with pytest.raises(VoucherifyUnexpectedAnswerError, match="the answer is not a valid CustomerList"):
        read_list(answer)


def test_what_is_made_by_hand_must_be_right() -> None:
    with pytest.raises(pydantic.ValidationError):
        Customer(id="cust_1", name=5)  # type: ignore[arg-type]
    with pytest.raises(pydantic.ValidationError):
        CustomerList.model_validate({"customers": [{"id": "cust_1", "name": 5}]})


@given(st.dictionaries(st.sampled_from([*Customer.model_fields, "new"]), JSON))
def test_any_object_with_an_id_is_read(answer: dict[str, Any]) -> None:
    told = read({**answer, "id": "cust_1"}).to_dict()

    assert told.keys() <= {*answer, "id"}
    for name in told.keys() - {"address", "id"}:
        assert told[name] == answer[name]
