"""Records of equal metadata go as lists of ids where that takes fewer requests, and nothing is lost on the way."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.sync.batches.destination import BatchLimits, metadata_destination
from airflow_provider_voucherify.sync.batches.grouping import Group, MetadataPlan, choose_groups
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Chunk

GROUPS = st.lists(
    st.builds(
        lambda number, records, size: Group(b'{"n":%d}' % number, records, records * (20 + size), records * 12),
        st.integers(),
        st.integers(1, 300),
        st.integers(0, 300),
    ),
    max_size=5,
)


def planned(rows: Sequence[tuple[str, Any]], metadata_plan: MetadataPlan, limits: BatchLimits) -> Plan:
    plan = Plan(metadata_destination("customers", None), limits=limits, metadata_plan=metadata_plan)
    plan.read(iter([Chunk(("source_id", "n"), list(rows[i : i + 1_000])) for i in range(0, len(rows), 1_000)]))
    return plan


def sent(plan: Plan) -> list[tuple[str, Any]]:
    """Return id and metadata of everything that would be sent."""
    found = []
    for batch in plan.batches:
        content = json.loads(b"".join(batch.body()))
        if isinstance(content, list):
            found += [(record["source_id"], record["metadata"]["n"]) for record in content]
        else:
            found += [(name, content["metadata"]["n"]) for name in content["source_ids"]]
    return found


@given(
    st.lists(st.tuples(st.text('ab",\\é', min_size=1, max_size=4), st.integers(0, 3) | st.text(',"}\\', max_size=3))),
    st.sampled_from(["auto", "metadata", "bulk"]),
    st.integers(120, 600),
)
def test_every_record_is_sent_once_with_its_own_metadata(
    rows: list[tuple[str, Any]], metadata_plan: MetadataPlan, max_bytes: int
) -> None:
    with planned(rows, metadata_plan, BatchLimits(max_bytes)) as plan:
        last = dict(rows)
        assert sorted(sent(plan), key=repr) == sorted(last.items(), key=repr)
        assert plan.rows_read == sum(batch.records for batch in plan.batches) + plan.superseded
        assert all(len(b"".join(batch.body())) == batch.length <= max_bytes for batch in plan.batches)
    if metadata_plan != "bulk":
        with planned(rows, "bulk", BatchLimits(max_bytes)) as bulk:
            assert metadata_plan == "metadata" or len(plan.batches) <= len(bulk.batches)


@given(GROUPS, st.integers(0, 4_000))
def test_the_choice_takes_as_few_requests_as_any_other(groups: list[Group], rest: int) -> None:
    groups = list({group.metadata: group for group in groups}.values())
    limits = BatchLimits(3_000)
    records, size = sum(g.records for g in groups) + rest // 40, sum(g.record_bytes for g in groups) + rest

    def requests(chosen: Sequence[Group]) -> int:
        by_ids = sum(limits.requests(g.records, g.id_bytes, len(g.metadata) + 32) for g in chosen)
        return by_ids + limits.requests(0, size - sum(g.record_bytes for g in chosen), 2)

    best = min(requests(some) for count in range(len(groups) + 1) for some in itertools.combinations(groups, count))
    assert requests(choose_groups(groups, records, size, limits)) == best


def test_a_million_ids_of_one_metadata_take_two_requests() -> None:
    rows = [(f"customer-{number:07}", "the same") for number in range(1_000_000)]

    with planned(rows, "auto", BatchLimits()) as plan:
        assert plan.requests_by_endpoint == {"/v1/customers/metadata/async": 2}


@pytest.mark.parametrize("distinct", [40_000, 7])
def test_a_large_group_is_found_among_any_number_of_small_ones(distinct: int) -> None:
    """The small ones come first and are more than are counted at a time."""
    rows = [(f"s{number:06}", number % distinct) for number in range(40_000)]
    rows += [(f"t{number:06}", "large" * 40) for number in range(10_000)]

    with planned(rows, "auto", BatchLimits(300_000)) as plan:
        split = Counter()
        for batch in plan.batches:
            split[batch.destination.endpoint.path] += batch.records
        assert Counter(sent(plan)) == Counter(rows)

    assert split["/v1/customers/metadata/async"] >= 10_000
    assert len(plan.batches) <= 8, "15 without lists of ids"


PLAN = """
import hashlib
from airflow_provider_voucherify.sync.batches.destination import BatchLimits, metadata_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Chunk

rows = [(f"c{i:05}", "AB"[i % 2]) for i in range(3_000)]
with Plan(metadata_destination("customers", None), limits=BatchLimits(60_000), metadata_plan="PLAN") as plan:
    plan.read(iter([Chunk(("source_id", "n"), rows)]))
    bodies = [batch.destination.endpoint.path.encode() + b"".join(batch.body()) for batch in plan.batches]
    print(hashlib.sha256(b"|".join(bodies)).hexdigest(), len(bodies))
"""


@pytest.mark.parametrize("metadata_plan", ["auto", "metadata"])
def test_batches_are_the_same_in_every_process(metadata_plan: str) -> None:
    code = PLAN.replace("PLAN", metadata_plan)
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in (0, 1, 4)
    }

    assert len(printed) == 1
