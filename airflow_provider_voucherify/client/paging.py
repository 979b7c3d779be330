"""
Lists of several pages, without any I/O: each listing is a generator that asks for pages and yields records.

A listing yields a ``Call`` and is sent its page, or yields a list of records; ``http`` performs it for both clients. It
always ends: after an empty page, after a page that says it is the last, or with an error if the answers cannot lead to
the end (a cursor that comes again, a page without one, a page of known records only). It never ends early without an
error, because its reader assumes that it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyUnexpectedAnswerError
from airflow_provider_voucherify.models.times import iso

P = TypeVar("P")
R = TypeVar("R")

Listing: TypeAlias = Generator["Call[P] | list[R]", Any, None]
Query = Mapping[str, Any]

PAGE_SIZE = 100
"""Records per page, the maximum of the API."""

LAST_PAGE = 99
"""Highest page number that the API accepts (customers, vouchers)."""

LAST_PAGE_OF_PRODUCTS = 100
"""The same for products and a product's SKUs (documentation/openapi/products.json)."""

LAST_PAGE_OF_EXPORTS = 100
"""The same for exports (documentation/openapi/exports.json)."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Pages(Generic[P, R]):
    """
    How the pages of one list are requested and read.

    :param call: makes the call from query parameters.
    :param records: the records of a page.
    :param identity: the id of a record.
    :param what: the kind of the records, for errors.
    :param has_more: whether a page says that more follow; None if it does not say.
    :param total: the number of all records that a page states; None if it states none.
    :param last_page: the highest page number that the API accepts.
    """

    call: Callable[[Query], Call[P]]
    records: Callable[[P], Sequence[R]]
    identity: Callable[[R], str]
    what: str
    has_more: Callable[[P], bool | None] = lambda page: None
    total: Callable[[P], int | None] = lambda page: None
    last_page: int = LAST_PAGE

    def is_last(self, page: P, read: int, total: int | None = None) -> bool:
        """
        Say whether nothing comes after a page.

        A page that does not say so itself is the last if it is empty, or not full and no record is missing.

        :param read: records of the list that were read so far.
        :param total: records that the list has, as far as is known.
        :raises VoucherifyUnexpectedAnswerError: it says that more follows, and is empty.
        """
        more, count = self.has_more(page), len(self.records(page))
        if more is None:
            return count == 0 or (count < PAGE_SIZE and read >= (total or 0))
        if more and not count:
            raise self.stuck("a page that is not the last is empty")
        return not more

    def fresh(self, page: P, known: Set[str]) -> list[R]:
        """Return the records of a page that are not known."""
        return [record for record in self.records(page) if self.identity(record) not in known]

    def check_progress(self, page: P, before: Set[str], number: int) -> None:
        """Raise if a page has only records of the page before."""
        if self.records(page) and self.keys(page) <= before:
            raise self.stuck(f"page {number} has what the page before had")

    def keys(self, page: P) -> set[str]:
        """Return the ids of a page's records."""
        return set(map(self.identity, self.records(page)))

    def stuck(self, why: str) -> VoucherifyUnexpectedAnswerError:
        """Return the error for a list that cannot be read to its end."""
        return VoucherifyUnexpectedAnswerError(f"the list of {self.what} cannot be read to its end: {why}")


def by_page(pages: Pages[P, R], query: Query) -> Listing[P, R]:
    """
    Read a list by page numbers.

    Records that are added or removed meanwhile move others to the next or previous page; a record on two consecutive
    pages is yielded once.
    """
    before: set[str] = set()
    number, read = 1, 0
    while True:
        page = yield pages.call({**query, "limit": PAGE_SIZE, "page": number})
        pages.check_progress(page, before, number)
        records = pages.fresh(page, before)
        yield records
        read += len(records)
        if pages.is_last(page, read, pages.total(page)):
            return
        if number == pages.last_page:
            if not pages.has_more(page) and read >= (pages.total(page) or read + 1):
                return
            raise pages.stuck(f"the API has no page after {number}, and there are more; ask for fewer with a filter")
        before, number = pages.keys(page), number + 1


def by_cursor(pages: Pages[P, R], query: Query, cursor_of: Callable[[P], str | None]) -> Listing[P, R]:
    """
    Read a list whose pages name the id that the next one starts after.

    :param cursor_of: returns that id; if a page names none, the id of its last record is used.
    """
    used: set[str] = set()
    before: set[str] = set()
    cursor: str | None = None
    read = 0
    while True:
        at = {} if cursor is None else {"starting_after_id": cursor}
        page = yield pages.call({**query, "limit": PAGE_SIZE, **at})
        pages.check_progress(page, before, len(used) + 1)
        before = pages.keys(page)
        records = pages.records(page)
        yield list(records)
        read += len(records)
        if pages.is_last(page, read):
            return
        cursor = cursor_of(page) or pages.identity(records[-1])
        if cursor in used:
            raise pages.stuck(f"the cursor {cursor} came before")
        used.add(cursor)


@dataclass(frozen=True)
class TimeOrder(Generic[R]):
    """
    An order by a time that is also the cursor.

    :param field: ``created_at`` or ``updated_at``.
    :param cursor: query parameter that skips everything up to (or, descending, from) a time.
    :param time_of: the field's value.
    """

    field: str
    cursor: str
    time_of: Callable[[R], str | None]
    descending: bool = False

    @property
    def step(self) -> timedelta:
        """One millisecond in the direction of the order: the resolution of the API's times."""
        return -_MILLISECOND if self.descending else _MILLISECOND

    def is_beyond(self, time: datetime, other: datetime) -> bool:
        """Say whether a time comes after another one in this order."""
        return time < other if self.descending else time > other

    def time(self, pages: Pages[Any, R], record: R) -> datetime:
        """Return a record's time, down to the millisecond."""
        try:
            moment = parse_time(self.time_of(record) or "")
        except VoucherifyConfigurationError:
            raise pages.stuck(f"{pages.identity(record)} has no {self.field} to continue from") from None
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def within(self, query: Query, *moments: datetime) -> Query:
        """Return a query for some moments and two milliseconds around them, within the query's own bounds."""
        after, before = f"{self.field}[after]", f"{self.field}[before]"
        since, until = min(moments) - 2 * _MILLISECOND, max(moments) + 2 * _MILLISECOND
        if after in query:
            since = max(since, parse_time(query[after]))
        if before in query:
            until = min(until, parse_time(query[before]))
        return {**query, after: iso(since), before: iso(until)}


def by_time(pages: Pages[P, R], query: Query, order: TimeOrder[R]) -> Listing[P, R]:
    """
    Read a list with a time as the cursor, even if many records share one time.

    A bulk update creates thousands of records in the same millisecond, and a cursor of that millisecond would skip
    those that did not fit on the page. So the cursor stays a millisecond behind the last record, and records that come
    again are skipped. If that makes no progress, because a whole page is of one or two milliseconds, these are read by
    page numbers: at most 9,900 records.
    """
    known: set[str] = set()
    cursor: datetime | None = None
    total: int | None = None
    read = 0
    while True:
        at = {} if cursor is None else {order.cursor: iso(cursor)}
        page = yield pages.call({**query, "limit": PAGE_SIZE, **at})
        if cursor is None:  # later totals may count only the rest
            total = pages.total(page)
        records = pages.fresh(page, known)
        yield records
        read += len(records)
        if pages.is_last(page, read, total):
            return
        first, last = (order.time(pages, pages.records(page)[place]) for place in (0, -1))
        if cursor is not None and order.is_beyond(cursor, last):
            raise pages.stuck(f"the API returns records from before the cursor {iso(cursor)}")
        cursor_behind = last - order.step
        if first != last and (cursor is None or order.is_beyond(cursor_behind, cursor)):
            cursor, known = cursor_behind, pages.keys(page)
        else:
            cursor, known = last + order.step, known | pages.keys(page)
            ids = yield from _moment(pages, query, order, (first, last), known)
            read += len(ids)
            known |= ids


def _moment(
    pages: Pages[P, R], query: Query, order: TimeOrder[R], moment: tuple[datetime, datetime], known: Set[str]
) -> Generator[Call[P] | list[R], Any, set[str]]:
    """
    Read all records of a moment by page numbers, yield those that are not known, and return their ids.

    :param moment: its beginning and end in this order. Earlier records have been yielded.
    """
    before: set[str] = set()
    ids: set[str] = set()
    read = 0
    for number in range(1, LAST_PAGE + 1):
        page = yield pages.call({**order.within(query, *moment), "limit": PAGE_SIZE, "page": number})
        pages.check_progress(page, before, number)
        records = [r for r in pages.fresh(page, known | ids) if not order.is_beyond(moment[0], order.time(pages, r))]
        yield records
        ids.update(map(pages.identity, records))
        read += len(pages.keys(page) - before)
        before = pages.keys(page)
        if pages.is_last(page, read, pages.total(page)):
            return ids
    raise pages.stuck(f"more than {LAST_PAGE * PAGE_SIZE:,} of them have the same time")


def parse_time(text: str) -> datetime:
    """Read an ISO-8601 time; one without a time zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise VoucherifyConfigurationError(f"{text!r} is not an ISO-8601 time") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
