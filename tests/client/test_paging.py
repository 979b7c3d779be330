"""Lists of several pages: all of it, each once, and an end, however the other side behaves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_voucherify.client import customers, products, vouchers
from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.paging import Listing
from airflow_provider_voucherify.models.errors import VoucherifyUnexpectedAnswerError

START = datetime(2026, 1, 1, tzinfo=UTC)
Answer = Callable[[dict[str, str]], Any]


def read(listing: Listing[Any, Any], answer: Answer, most_requests: int = 1_000) -> list[Any]:
    """Read a listing, each request answered by a function of its query."""
    found: list[Any] = []
    page: Any = None
    for _ in range(most_requests * 2):
        try:
            step = listing.send(page)
        except StopIteration:
            return found
        page = None
        if isinstance(step, Call):
            page = step.parse(answer(dict(step.query or {})))
        else:
            found += step
    raise AssertionError("the listing does not end")


def iso(milliseconds: float) -> str:
    return (START + timedelta(milliseconds=milliseconds)).isoformat().replace("+00:00", "Z")


@dataclass
class Api:
    """
    An API with a list of records, in any of the ways that the vendor's description leaves open.

    :param times: milliseconds of each record.
    :param inclusive: whether cursors and filters include the time that they name.
    :param says_more: whether a page has ``has_more``.
    :param says_total: whether a page has ``total``.
    :param largest: records that a page has at most, whatever is asked for.
    """

    times: list[float]
    inclusive: bool = False
    says_more: bool = True
    says_total: bool = True
    largest: int = 100
    name: str = "customers"
    requests: int = 0

    def __post_init__(self) -> None:
        self.records = [(START + timedelta(milliseconds=t), i) for i, t in enumerate(self.times)]

    def __call__(self, query: dict[str, str]) -> dict[str, Any]:
        self.requests += 1
        descending = query.get("order", "").startswith("-")
        passing = self.records
        bounds = (("created_at[after]", True), ("created_at[before]", False), ("starting_after", not descending))
        for name, after in bounds:
            if name in query:
                bound = datetime.fromisoformat(query[name])
                passing = [record for record in passing if self._passes(record[0], bound, after)]
        passing = sorted(passing, key=lambda record: record[0], reverse=descending)
        size, page = min(int(query["limit"]), self.largest), int(query.get("page", "1"))
        shown, rest = passing[(page - 1) * size : page * size], passing[page * size :]
        answer: dict[str, Any] = {
            self.name: [{"id": str(i), "code": str(i), "created_at": t.isoformat()} for t, i in shown]
        }
        if self.says_more:
            answer["has_more"] = bool(rest)
        if self.says_total:
            answer["total"] = len(passing)
        return answer

    def _passes(self, time: datetime, bound: datetime, after: bool) -> bool:
        return (time > bound if after else time < bound) or (self.inclusive and time == bound)


@settings(max_examples=200)
@given(
    times=st.lists(st.tuples(st.integers(0, 60), st.sampled_from([1, 1, 2, 40, 99, 100, 101, 130])), max_size=8),
    microseconds=st.booleans(),
    descending=st.booleans(),
    inclusive=st.booleans(),
    says=st.sampled_from([(True, True), (True, False), (False, True)]),
    largest=st.sampled_from([100, 100, 60]),
)
@example([(31, 99), (33, 1), (34, 100)], False, False, True, (True, True), 100)
@example([(23, 40), (25, 40), (26, 40), (29, 99)], False, False, True, (False, True), 60)
def test_every_customer_is_listed_once(
    times: list[tuple[int, int]],
    microseconds: bool,
    descending: bool,
    inclusive: bool,
    says: tuple[bool, bool],
    largest: int,
) -> None:
    spread = 0.001 if microseconds else 0.0
    api = Api([t + spread * n for t, count in times for n in range(count)], inclusive, *says, largest)

    found = read(customers.all_customers(order="-created_at" if descending else "created_at"), api)

    ids = [customer.id for customer in found]
    assert sorted(ids, key=int) == [str(n) for n in range(len(api.times))]
    assert api.requests <= 5 + len(api.times) // 10 * 2


@pytest.mark.parametrize("order", ["created_at", "-created_at"])
@pytest.mark.parametrize("inclusive", [False, True])
def test_every_voucher_is_listed_once_although_there_is_no_cursor(order: str, inclusive: bool) -> None:
    api = Api([n // 130 for n in range(1_000)], inclusive, says_more=False, name="vouchers")

    found = read(vouchers.all_vouchers(order=order), api)

    assert sorted(int(voucher.code) for voucher in found) == list(range(1_000))


@pytest.mark.parametrize("order", ["created_at", "-created_at"])
def test_the_caller_s_own_bounds_are_kept_where_a_moment_is_read_by_pages(order: str) -> None:
    api = Api([5.0] * 250 + [6.0] * 250 + [7.0] * 250)
    seen: list[dict[str, str]] = []

    def answer(query: dict[str, str]) -> Any:
        seen.append(query)
        return api(query)

    listing = customers.all_customers(order=order, created_at_after=iso(5), created_at_before=iso(7), city="Oslo")
    found = read(listing, answer)

    assert sorted(customer.id for customer in found) == [str(n) for n in range(250, 500)]
    assert all(query["city"] == "Oslo" for query in seen)


def test_one_request_does_for_a_short_list() -> None:
    api = Api([1, 2, 3])

    assert len(read(customers.all_customers(), api)) == 3
    assert api.requests == 1


def test_an_empty_list_is_empty() -> None:
    assert read(customers.all_customers(), lambda query: {"customers": [], "total": 0}) == []
    assert read(products.all_products(), lambda query: {"products": []}) == []


def pages(*answers: Any) -> Answer:
    """Answer with these, and the last of them for ever."""
    rest: Iterator[Any] = iter(answers)
    last: list[Any] = [None]

    def answer(query: dict[str, str]) -> Any:
        last[0] = next(rest, last[0])
        return last[0]

    return answer


def page(start: int, count: int = 100, *, at: float = 0.0, **more: Any) -> dict[str, Any]:
    """A page of customers that were created a second apart."""
    records = [{"id": str(start + n), "created_at": iso(at + (start + n) * 1_000)} for n in range(count)]
    return {"customers": records, **more}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (pages(page(0)), "page 2 has what the page before had"),
        (pages(page(0, has_more=True), page(100, has_more=True), page(0, has_more=True)), "from before the cursor"),
        (pages(page(0, has_more=True), {"customers": [], "has_more": True}), "a page that is not the last is empty"),
        (pages({"customers": [{"id": "1"}], "has_more": True}), "1 has no created_at to continue from"),
        (pages({"customers": [{"id": "1", "created_at": "soon"}], "has_more": True}), "1 has no created_at"),
        (lambda query: page(0, count=50, has_more=True), "page 2 has what the page before had"),
    ],
)
def test_what_cannot_be_read_to_its_end_is_an_error(answer: Answer, said: str) -> None:
    with pytest.raises(VoucherifyUnexpectedAnswerError, match=f"list of customers cannot be read to its end: .*{said}"):
        read(customers.all_customers(), answer)


def test_more_records_of_one_time_than_pages_reach_are_an_error() -> None:
    with pytest.raises(VoucherifyUnexpectedAnswerError, match="more than 9,900 of them have the same time"):
        read(customers.all_customers(), Api([1.0] * 10_100))


class TestPageNumbers:
    def test_the_page_that_does_not_change_is_noticed(self) -> None:
        same = {"products": [{"id": str(n)} for n in range(100)]}

        with pytest.raises(VoucherifyUnexpectedAnswerError, match="page 2 has what the page before had"):
            read(products.all_products(), lambda query: same)

    def test_the_highest_page_is_not_the_end_without_a_word(self) -> None:
        def answer(query: dict[str, str]) -> Any:
            first = int(query["page"]) * 100
            return {"customers": [{"id": str(first + n)} for n in range(100)], "has_more": True}

        with pytest.raises(VoucherifyUnexpectedAnswerError, match="the API has no page after 99"):
            read(customers.all_customers(order="source_id"), answer)

    @pytest.mark.parametrize("tells_total", [True, False])
    def test_of_products_there_are_100_pages(self, tells_total: bool) -> None:
        def answer(query: dict[str, str]) -> Any:
            first = (int(query["page"]) - 1) * 100
            assert first < 10_000, "the API refuses this"
            shown = [{"id": str(n)} for n in range(first, min(first + 100, there))]
            return {"products": shown, **({"total": there} if tells_total else {})}

        there = 9_999
        assert len(read(products.all_products(), answer)) == 9_999
        there = 10_000
        if tells_total:
            assert len(read(products.all_products(), answer)) == 10_000
        there = 10_001
        with pytest.raises(VoucherifyUnexpectedAnswerError, match="the API has no page after 100, and there are more"):
            read(products.all_products(), answer)

    def test_a_record_that_moved_to_the_next_page_is_given_once(self) -> None:
        first = {"products": [{"id": str(n)} for n in range(100)], "total": 150}
        second = {"products": [{"id": str(n)} for n in range(99, 150)], "total": 150}

        found = read(products.all_products(), pages(first, second, {"products": []}))

        assert [product.id for product in found] == [str(n) for n in range(150)]

    def test_pages_that_are_smaller_than_asked_for_are_followed_as_long_as_some_are_missing(self) -> None:
        def answer(query: dict[str, str]) -> Any:
            first = (int(query["page"]) - 1) * 10
            return {"products": [{"id": str(n)} for n in range(first, min(first + 10, 35))], "total": 35}

        assert len(read(products.all_products(), answer)) == 35


class TestCursors:
    def activity(self, *ids: int, **more: Any) -> dict[str, Any]:
        return {"data": [{"id": str(n)} for n in ids], **more}

    def test_the_cursor_that_the_page_names_is_used(self) -> None:
        asked: list[str | None] = []
        answers = {
            None: self.activity(1, 2, has_more=True, more_starting_after="x"),
            "x": self.activity(3, has_more=True),
            "3": self.activity(4, has_more=False),
        }

        def answer(query: dict[str, str]) -> Any:
            asked.append(query.get("starting_after_id"))
            return answers[asked[-1]]

        found = read(customers.all_customer_activity("c1", type="customer.created"), answer)

        assert [activity.id for activity in found] == ["1", "2", "3", "4"]
        assert asked == [None, "x", "3"]

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ({"data": [{"id": "1"}], "has_more": True, "more_starting_after": "x"}, "page 2 has what the page before"),
            ({"data": [{"id": "1"}], "has_more": True}, "page 2 has what the page before had"),
            ({"data": [], "has_more": True}, "a page that is not the last is empty"),
        ],
    )
    def test_a_page_that_comes_again_is_an_error(self, answer: Any, said: str) -> None:
        with pytest.raises(VoucherifyUnexpectedAnswerError, match=said):
            read(customers.all_customer_activity("c1"), lambda query: answer)

    def test_cursors_that_are_always_new_do_not_hide_that(self) -> None:
        new = itertools.count()

        def answer(query: dict[str, str]) -> Any:
            return self.activity(1, has_more=True, more_starting_after=f"x{next(new)}")

        with pytest.raises(VoucherifyUnexpectedAnswerError, match="page 2 has what the page before had"):
            read(customers.all_customer_activity("c1"), answer)

    def test_a_cursor_that_comes_again_is_an_error(self) -> None:
        new = itertools.count()

        def answer(query: dict[str, str]) -> Any:
            return self.activity(next(new), has_more=True, more_starting_after="x")

        with pytest.raises(VoucherifyUnexpectedAnswerError, match="the cursor x came before"):
            read(customers.all_customer_activity("c1"), answer)
