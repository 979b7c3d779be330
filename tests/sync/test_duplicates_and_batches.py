"""From rows to requests: every id once, the last row of it, in order, in as few and as full requests as possible."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.sync.batches.bodies import ids_of
from airflow_provider_voucherify.sync.batches.destination import BatchLimits, metadata_destination, update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.batches.spool import Spool
from airflow_provider_voucherify.sync.rows.sources import from_records

ReadRows = Callable[..., Any]
BETWEEN_BRACKETS = update_destination("customers")
IDS = st.text('abcé"\\,\n', min_size=1, max_size=3).filter(lambda text: bool(text.strip()))
ROWS = st.lists(st.fixed_dictionaries({"source_id": IDS, "n": st.integers(0, 99) | st.just("x" * 200)}), max_size=40)
LIMITS = st.builds(BatchLimits, st.integers(45, 400), st.none() | st.integers(1, 5))


@given(ROWS, LIMITS)
def test_every_id_is_sent_once_with_its_last_row_in_the_order_of_the_source(
    read: ReadRows, rows: list[dict[str, Any]], limits: BatchLimits
) -> None:
    done = read("customers", rows, limits=limits)

    refused = {json.loads(line)["_failure"]["row"] for line in done.failures}
    fitting = [row for number, row in enumerate(rows, start=1) if number not in refused]
    last = {row["source_id"]: number for number, row in enumerate(fitting)}
    sent = [(record["source_id"], record["metadata"]["n"]) for record in done.records]
    assert sent == [
        (row["source_id"], row["n"]) for number, row in enumerate(fitting) if last[row["source_id"]] == number
    ]
    assert done.superseded == len(fitting) - len(last)
    if limits.max_records is not None:
        assert all(len(json.loads(body)) <= limits.max_records for body in done.bodies)


@given(ROWS, LIMITS)
def test_no_batch_has_room_for_the_first_record_of_the_next(
    read: ReadRows, rows: list[dict[str, Any]], limits: BatchLimits
) -> None:
    bodies = read("customers", rows, limits=limits).bodies

    for body, following in itertools.pairwise(bodies):
        first = json.loads(following)[0]
        needed = len(json.dumps(first, ensure_ascii=False, separators=(",", ":")).encode()) + 1
        assert len(body) + needed > limits.max_bytes or len(json.loads(body)) == limits.max_records


@given(st.lists(IDS, max_size=40), LIMITS)
def test_ids_that_share_metadata_follow_the_same_rules(read: ReadRows, ids: list[str], limits: BatchLimits) -> None:
    done = read(metadata_destination("products", {"a": 1}), ids, limits=limits)

    assert done.refused == 0
    assert done.records == list(reversed(dict.fromkeys(reversed(ids))))
    assert all(json.loads(body)["metadata"] == {"a": 1} for body in done.bodies)


@given(st.lists(st.lists(IDS, max_size=12), max_size=4), LIMITS, st.booleans(), st.sampled_from(["auto", "metadata"]))
def test_a_batch_knows_the_ids_in_its_body(
    some: list[list[str]], limits: BatchLimits, shared: bool, metadata_plan: Any
) -> None:
    """Those of the bytes that are sent, wherever duplicates and limits cut, and after it is split."""
    destination = metadata_destination("customers", {"a": 1} if shared else None)
    with Plan(destination, limits=limits, metadata_plan=metadata_plan) as plan:
        chunks = [[id_ if shared else {"source_id": id_, "n": len(id_)} for id_ in ids] for ids in some]
        plan.read(part for ids in chunks for part in from_records(ids, "source_id", takes_ids=True))
        if plan.batches and plan.batches[0].records > 1:
            plan.split(plan.batches[0])
        for batch in list(plan.batches):
            ids = batch.ids()
            assert ids == ids_of(b"".join(batch.body()), batch.destination.endpoint)
            assert len(ids) == batch.records
            subset = plan.add_subset(batch, ids[-2:])
            assert subset is not None
            assert subset.ids() == ids[-2:]


def test_ids_that_look_alike_are_different(read: ReadRows) -> None:
    done = read("customers", ["1", "01", " 1", "1 ", "a", "A", "é", "e\u0301"])

    assert (len(done.records), done.superseded) == (8, 0)


def test_an_id_is_the_same_whatever_its_type(read: ReadRows) -> None:
    done = read("customers", [{"source_id": 1, "n": "number"}, {"source_id": "1", "n": "text"}])

    assert (done.record["metadata"], done.superseded) == ({"n": "text"}, 1)


def test_a_refused_row_does_not_supersede_an_earlier_one(read: ReadRows) -> None:
    done = read("customers", [{"source_id": "a", "n": 1}, {"source_id": "a", "n": float("nan")}])

    assert (done.record["metadata"], done.superseded, done.refused) == ({"n": 1}, 0, 1)


@given(
    st.lists(st.lists(st.tuples(IDS, st.binary(min_size=1, max_size=30)), max_size=8), max_size=6),
    st.integers(40, 120),
    st.none() | st.integers(1, 4),
    st.booleans(),
)
def test_the_spool_gives_back_what_was_put_in(
    chunks: list[list[tuple[str, bytes]]], max_bytes: int, max_records: int | None, comparable: bool
) -> None:
    items = [
        (record_id, record_id.encode() + b"=" + data.replace(b"\n", b" ").replace(b",", b" "))
        for chunk in chunks
        for record_id, data in chunk
    ]
    items = [(record_id.replace("\n", " "), data.replace(b"\n", b" ")) for record_id, data in items]
    with Spool(BETWEEN_BRACKETS) as spool:
        left = iter(items)
        for chunk in chunks:
            taken = [next(left) for _ in chunk]
            ids = [record_id for record_id, _ in taken]
            spool.add(b"".join(data + b"\n" for _, data in taken), ids, ids if comparable else None)
        superseded = spool.find_superseded()
        batches = list(spool.batches(max_bytes, max_records))
        bodies = [b"".join(batch.body()) for batch in batches]
        assert bodies == [b"".join(batch.body()) for batch in batches], "a body can be read twice"
        assert spool.sendable_bytes == sum(len(body) - 1 for body in bodies)
        blocks = [item for block in spool.blocks() for item in block]

    last = {record_id: number for number, (record_id, _) in enumerate(items)}
    kept = [data for number, (record_id, data) in enumerate(items) if last[record_id] == number]
    assert superseded == len(items) - len(kept)
    assert b",".join(body[1:-1] for body in bodies) == b",".join(kept)
    assert blocks == kept
    assert [batch.number for batch in batches] == list(range(1, len(batches) + 1))
    assert sum(batch.records for batch in batches) == len(kept) == spool.sendable
    assert all(len(body) == batch.length <= max_bytes for body, batch in zip(bodies, batches, strict=True))


@pytest.mark.parametrize("ordered_first", [0, 70_000], ids=["from the start", "after ordered ones"])
def test_far_apart_duplicates_are_found_among_many_rows(ordered_first: int) -> None:
    """More ids than are looked at together, so that finding repeated ones takes the way by partitions."""
    count = 150_000
    ids = [f"c{number:06}" for number in range(count)]
    ids[ordered_first:] = sorted(ids[ordered_first:], key=lambda name: name[::-1])
    ids[-1], ids[-2] = ids[0], ids[70_001]
    with Spool(BETWEEN_BRACKETS) as spool:
        for start in range(0, count, 1_000):
            chunk = ids[start : start + 1_000]
            spool.add("\n".join([*chunk, ""]).encode(), chunk, chunk)
        assert spool.find_superseded() == 2
        (batch,) = spool.batches(10_485_760, None)
        sent = b"".join(batch.body())[1:-1].decode().split(",")

    assert sent == [*ids[1:70_001], *ids[70_002:]]
    assert batch.records == count - 2


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        ("c1      ", "begin or end with a blank, as a column of type CHAR pads them"),
        ("\u00a0c1", "begin or end with a blank, as a column of type CHAR pads them"),
        ("'7000000000001", "begin or end with a quote"),
        ('"c1"', "begin or end with a quote"),
        ("\ufeffc1", "have an invisible character, such as a byte order mark"),
        ("c\u200b1", "have an invisible character, such as a byte order mark"),
        ("1.23457E+12", "are numbers that a spreadsheet has shortened"),
        ("1,2E+5", "are numbers that a spreadsheet has shortened"),
    ],
)
def test_ids_that_somebody_has_damaged_are_sent_as_they_are_and_told(odd: str, kind: str) -> None:
    """Each of these makes another customer of a customer, and nobody would see it in the counts."""
    ids = [f"c{number}" for number in range(2_000)]
    with Plan(update_destination("customers")) as plan:
        plan.read(from_records([*ids, odd, *ids[:5], odd], "source_id", takes_ids=True))

    assert plan.warnings[:1] == [f"ids that {kind}: 2, such as {odd!a}; they are sent exactly as they are"]
    assert plan.batches[0].records == 2_001


def test_ids_with_quotes_blanks_and_signs_inside_are_nothing_to_tell() -> None:
    ids = ["O'Brien", "a b", "a+b", "Łódź", "1E5", "E+", "a\nb", "x1.2E+3"]
    with Plan(update_destination("customers")) as plan:
        plan.read(from_records(ids, "source_id", takes_ids=True))

    assert plan.warnings == []
