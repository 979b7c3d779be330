"""What the stories about the engine share: rows in, requests and refusals out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from openapi import assert_valid_request

from airflow_provider_voucherify.sync.batches.destination import BatchLimits, Destination, update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Rows
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_records


@dataclass(frozen=True)
class Read:
    """
    What became of some rows.

    :param reasons: key and message of the refused rows that a summary shows.
    :param failures: the lines of ``failures.jsonl`` for refused rows.
    """

    rows_read: int
    refused: int
    superseded: int
    bodies: list[bytes]
    reasons: list[tuple[str | None, str | None]]
    failures: list[bytes]

    @property
    def records(self) -> list[Any]:
        """All records (or ids) that would be sent, in order."""
        contents = [json.loads(body) for body in self.bodies]
        return [item for content in contents for item in (content if isinstance(content, list) else _ids(content))]

    @property
    def record(self) -> dict[str, Any]:
        """The only record."""
        (record,) = self.records
        assert isinstance(record, dict)
        return record

    @property
    def reason(self) -> tuple[str | None, str | None]:
        """Why the only row was refused."""
        assert (self.rows_read, self.refused, self.bodies) == (1, 1, [])
        return self.reasons[0]


def _ids(content: dict[str, Any]) -> list[Any]:
    (ids,) = [value for name, value in content.items() if name != "metadata"]
    assert isinstance(ids, list)
    return ids


@pytest.fixture(scope="session")
def read() -> Callable[..., Read]:
    """
    Give a function that reads rows into a plan and returns what would be sent.

    It checks what holds for every plan: the counts add up, no body is larger than allowed or than announced, and each
    fits the contract.
    """

    def read_rows(
        to: Destination | str,
        rows: Iterable[Any] | Rows,
        rules: MappingRules | None = None,
        limits: BatchLimits | None = None,
    ) -> Read:
        destination = update_destination(to) if isinstance(to, str) else to
        source = rows if isinstance(rows, Iterator) else from_records(rows, destination.endpoint.key, takes_ids=True)
        with Plan(destination, rules, limits, keep_refused=True) as plan:
            plan.read(source)
            bodies = [b"".join(batch.body()) for batch in plan.batches]
            assert [len(body) for body in bodies] == [batch.length for batch in plan.batches]
            assert all(len(body) <= (limits or BatchLimits()).max_bytes for body in bodies)
            assert plan.bytes_to_send == sum(map(len, bodies))
            assert plan.rows_read == sum(batch.records for batch in plan.batches) + plan.refused + plan.superseded
            assert plan.refused == plan.refused_by_key.total()
            for body in bodies:
                assert_valid_request("POST", destination.endpoint.path, body)
            return Read(
                plan.rows_read,
                plan.refused,
                plan.superseded,
                bodies,
                [(failure.key, failure.message) for failure in plan.refused_sample],
                list(plan.refused_lines()),
            )

    return read_rows
