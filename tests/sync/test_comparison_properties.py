"""
Whatever the source has, whatever Voucherify has, and however it writes exports: after a sync that compares, what was
sent is there, and reading back finds each damage and nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from connections import APP_ID, SECRET_KEY
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.policies import ReadBack
from airflow_provider_voucherify.sync.batches.compared_plan import ComparedPlan
from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.comparison.differences import Differences
from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords
from airflow_provider_voucherify.sync.results.collect import collect_outcomes
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.results.verification import VerificationOfAll, VerificationOfSome
from airflow_provider_voucherify.sync.rows.mapping import MappingRules
from airflow_provider_voucherify.sync.rows.sources import from_records
from airflow_provider_voucherify.sync.sending.journal import Journal, Try
from airflow_provider_voucherify.sync.sending.submission import Submission
from airflow_provider_voucherify.task.read_back import ExportReader, stored_record
from airflow_provider_voucherify.task.staging import PlannedRecords

TASK = SimpleNamespace(resource="customers", poll_interval=0.01, completion_timeout=30)
NOW = "2026-11-29T10:00:00.000Z"

READINGS: list[dict[str, Any]] = [
    {},
    {"export_header": "titles"},
    {"export_metadata_names": "bare"},
    {"export_header": "titles", "export_metadata_names": "bare", "export_lists": "json"},
    {"export_lists": "json", "metadata_mode": "replace"},
    {"export_metadata_columns": "one"},
]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tuple[LocalVoucherify, VoucherifyClient]]]:
    """Give a server for each reading, with a client."""
    with ExitStack() as stack:
        made = []
        for reading in READINGS:
            server = stack.enter_context(LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, **reading))
            settings_of = ConnectionSettings.build(application_id=APP_ID, secret_key=SECRET_KEY, host=server.base_url)
            made.append((server, stack.enter_context(VoucherifyClient(settings_of))))
        yield made


def run(
    client: VoucherifyClient,
    rows: list[dict[str, Any]],
    *,
    compares: bool = False,
    null_policy: Any = "omit",
    damage: Callable[[], None] | None = None,
    verify: str | int | None = None,
) -> tuple[SyncSummary, list[dict[str, Any]]]:
    """Run a sync without Airflow; return its summary, and what reading back has found."""
    reader = ExportReader(TASK, client, lambda: False)
    with ExitStack() as stack:
        rules = MappingRules(null_policy=null_policy)
        destination = update_destination("customers")
        made = ComparedPlan(ReadBack(compare=True), destination, rules) if compares else Plan(destination, rules)
        plan = stack.enter_context(made)
        plan.read(from_records(rows, "source_id"))
        if isinstance(plan, ComparedPlan):
            found = stack.enter_context(FoundRecords("source_id", plan.compared_paths, plan.samples()))
            found.expect(plan.records())
            reader.fetch(found)
            plan.compare(found)
        sync = Submission(plan, client, Journal(None, Try()), 1).run()
        for action_id in sync.async_action_ids:
            while not client.get_async_action(action_id).is_finished:
                pass
        if damage is not None:
            damage()
        differences = stack.enter_context(closing(Differences()))
        sent = PlannedRecords(plan)

        def bodies() -> Iterator[Any]:
            for batch in plan.batches:
                yield sent.body(batch.number), batch.destination.endpoint

        verification: Any = None
        if verify == "all":
            verification = VerificationOfAll(differences, None, bodies, reader.fetch)
        elif verify is not None:
            get = partial(stored_record, client, "customers")
            verification = VerificationOfSome(differences, None, int(verify), get)
        listeners = [] if verification is None else [stack.enter_context(closing(verification))]
        summary = collect_outcomes(sync, client, resource="customers", sent=sent, listeners=listeners)
        if verification is not None:
            verification.finish()
            summary = summary.model_copy(update=verification.counts())
        return summary, [json.loads(line) for line in differences.lines()]


def plain(value: Any) -> Any:
    """Return a value as CSV shows it, which has no types and no difference between null and nothing."""
    if value is None or value in ("", []):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower()
    if isinstance(value, int | float):
        return Decimal(str(value))
    if isinstance(value, str):
        try:
            return Decimal(value) if value.strip() == value and "_" not in value else value
        except ArithmeticError:
            return value
    return json.dumps(value, sort_keys=True)


TEXTS = st.sampled_from(
    [
        "",
        "a",
        " a",
        "a ",
        "a,b",
        'a"b',
        "a\nb",
        "Łódź",
        "12",
        "12.50",
        "true",
        "null",
        "[]",
        "{}",
        "2026-01-31",
        "\u00a0",
        "0",
        "-",
    ]
) | st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False, width=32) | st.just(1e21)
VALUES = st.none() | TEXTS | st.booleans() | NUMBERS | st.lists(st.text("abc", min_size=1, max_size=3), max_size=3)
RECORDS = st.fixed_dictionaries(
    {}, optional={"name": TEXTS, "description": TEXTS, "m": VALUES, "M": VALUES, "n o": VALUES}
)
IDS = st.sampled_from(["a", "B", "c c", "ż", "1", "true"])


def as_record(row: dict[str, Any], null_policy: str) -> dict[str, Any]:
    """Return what a row sends, by field; empty lists and such are as the source has them."""
    fields = {name: value for name, value in row.items() if name in ("name", "description") and value is not None}
    metadata = {name: value for name, value in row.items() if name in ("m", "n o", "M")}
    if null_policy == "omit":
        metadata = {name: value for name, value in metadata.items() if value is not None}
    return {**fields, **{f"metadata.{name}": value for name, value in metadata.items()}}


@settings(max_examples=150)
@given(
    st.lists(st.tuples(IDS, RECORDS), max_size=6),
    st.lists(st.tuples(IDS, RECORDS), max_size=6),
    st.integers(0, len(READINGS) - 1),
    st.sampled_from(["omit", "send"]),
)
def test_afterwards_voucherify_has_what_the_source_has(
    servers: Any, source: list[Any], stored: list[Any], reading: int, null_policy: str
) -> None:
    server, client = servers[reading]
    server.reset()
    run(client, [{"source_id": record_id, **row} for record_id, row in stored], null_policy="send")
    before = {record_id: dict(server.customers[record_id]) for record_id in server.customers}
    start = len(server.received)

    rows = [{"source_id": record_id, **row} for record_id, row in source]
    summary, _ = run(client, rows, compares=True, null_policy=null_policy)

    wanted = {row["source_id"]: as_record(row, null_policy) for row in rows}
    for record_id, fields in wanted.items():
        found = server.customers[record_id]
        for name, value in fields.items():
            first, _, member = name.partition(".")
            has = found.get(first) if not member else (found.get("metadata") or {}).get(member)
            assert plain(has) == plain(value), (record_id, name)
    created = server.customers.keys() - before.keys()
    assert summary.rows_read == (summary.succeeded or 0) + summary.unchanged + summary.superseded + summary.refused
    assert summary.superseded == len(rows) - len(wanted)
    assert (summary.created, summary.to_create) == (len(created), len(created))
    requests = [one for one in server.received[start:] if one.path == "/v1/customers/bulk/async"]
    assert len(requests) == (1 if summary.submitted else 0)
    changed = {name for name in before if server.customers[name].get("updated_at") != before[name].get("updated_at")}
    assert summary.updated == (summary.submitted or 0) - len(created)
    assert len(changed) <= (summary.updated or 0)

    again, _ = run(client, rows, compares=True, null_policy=null_policy)
    if not any(isinstance(value, list) for fields in wanted.values() for value in fields.values()):
        assert again.submitted == 0, "what is there is not sent again"


CUSTOMER = {
    "source_id": "c1",
    "name": "Ann, of Łódź",
    "description": "two\nlines",
    "email": "ann@example.com",
    "address_city": "Łódź",
    "segment": "gold",
    "score": 12,
    "rate": 1.25,
    "vip": True,
    "since": "2026-01-31T10:00:00Z",
    "tags": "a,b",
}
DAMAGES: dict[str, tuple[str, Any]] = {
    "a field is dropped": ("description", None),
    "a field is emptied": ("description", ""),
    "text is cut short": ("name", "Ann, of"),
    "text is padded": ("name", "Ann, of Łódź "),
    "text is written in capitals": ("name", "ANN, OF ŁÓDŹ"),
    "text is broken by a wrong encoding": ("name", "Ann, of Å\x81Ã³dÅº"),
    "line breaks are lost": ("description", "two lines"),
    "line breaks are doubled": ("description", "two\n\nlines"),
    "a value of another record": ("email", "bob@example.com"),
    "an address is dropped": ("address", None),
    "a member of an address is changed": ("address", {"city": "Lodz"}),
    "metadata is replaced by one member": ("metadata", {"segment": "gold"}),
    "metadata is dropped": ("metadata", {}),
    "a member is changed by hand": ("metadata.segment", "silver"),
    "a member is null": ("metadata.segment", None),
    "a number is rounded": ("metadata.rate", 1),
    "a number becomes text with a unit": ("metadata.score", "12 points"),
    "a number becomes text with zeros": ("metadata.score", "012"),
    "a boolean is turned round": ("metadata.vip", False),
    "a boolean becomes a number": ("metadata.vip", 1),
    "a time is moved by an hour": ("metadata.since", "2026-01-31T11:00:00Z"),
    "a list is made of text": ("metadata.tags", ["a", "c"]),
}


def change(server: LocalVoucherify, record_id: str, name: str, value: Any) -> None:
    """Change one field of a stored customer, as a fault of Voucherify or a person would."""
    fields = {name: server.customers[record_id].get(name) for name in ("name", "description", "email", "address")}
    fields["metadata"] = dict(server.customers[record_id].get("metadata") or {})
    first, _, member = name.partition(".")
    if member:
        fields[first][member] = value
    else:
        fields[first] = value
    server.customers.replace(record_id, fields, NOW)


@pytest.mark.parametrize("damage", [*DAMAGES, "the record is lost"])
@pytest.mark.parametrize("how", ["all", 40])
def test_reading_back_finds_each_damage_and_nothing_else(servers: Any, damage: str, how: str | int) -> None:
    server, client = servers[0]
    server.reset()
    rows = [{**CUSTOMER, "source_id": f"c{number}"} for number in range(20)]

    def harm() -> None:
        if damage in DAMAGES:
            change(server, "c7", *DAMAGES[damage])
        else:
            server.customers.remove("c7")
        server.customers.replace("somebody else", {"name": "not ours"}, NOW)

    summary, differences = run(client, rows, damage=harm, verify=how)

    assert [line["id"] for line in differences] == ["c7"]
    is_lost = damage not in DAMAGES
    assert (summary.verified, summary.differing, summary.missing) == (19, int(not is_lost), int(is_lost))
    assert differences[0]["change"] == ("missing" if is_lost else "differing")
    if not is_lost:
        names = {name.partition(".")[0] for name in differences[0]["fields"]}
        assert names == {DAMAGES[damage][0].partition(".")[0]}


@pytest.mark.parametrize("how", ["all", 40])
def test_a_type_that_changes_is_seen_where_json_is_read(servers: Any, how: str | int) -> None:
    """An export has no types: it cannot tell the number 12 from the text, nor null from nothing."""
    server, client = servers[0]
    server.reset()
    summary, differences = run(
        client, [CUSTOMER], damage=lambda: change(server, "c1", "metadata.score", "12"), verify=how
    )
    assert (summary.verified, summary.differing) == ((1, 0) if how == "all" else (0, 1))
    assert len(differences) == summary.differing


@settings(max_examples=1_000 // len(READINGS))
@given(st.lists(st.tuples(IDS, RECORDS), max_size=6), st.sampled_from(["omit", "send"]))
def test_reading_back_finds_nothing_where_nothing_is_damaged(servers: Any, source: list[Any], null_policy: str) -> None:
    """As the description has it, and under each other reading of how an export is written."""
    rows = [{"source_id": record_id, **row} for record_id, row in source]
    for server, client in servers:
        server.reset()
        summary, differences = run(client, rows, null_policy=null_policy, verify="all")
        assert (differences, summary.differing or 0, summary.missing or 0) == ([], 0, 0)
        assert (summary.verified or 0) == summary.submitted
