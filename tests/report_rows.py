"""Rows of a report as tests write them down: one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from airflow_provider_voucherify.sync.results.report import ReportRows


class ReportRow(NamedTuple):
    record_id: str | None
    found: bool | None
    updated: bool | None


def in_columns(rows: Iterable[ReportRow] | None, together: int = 2) -> Iterator[ReportRows] | None:
    """Give rows as they are read from a report, some together; None if there is no report."""
    return None if rows is None else _in_columns(iter(rows), together)


def _in_columns(rows: Iterator[ReportRow], together: int) -> Iterator[ReportRows]:
    while some := list(islice(rows, together)):
        yield ReportRows([row.record_id for row in some], [(row.found, row.updated) for row in some])


def one_by_one(report: Iterable[ReportRows]) -> Iterator[ReportRow]:
    """Give the rows of a report."""
    for ids, flags in report:
        yield from (ReportRow(record_id, *of_record) for record_id, of_record in zip(ids, flags, strict=True))
