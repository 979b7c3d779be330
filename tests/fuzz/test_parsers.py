"""Whatever bytes come in a file, an answer or a header, a parser raises what it documents and nothing else, soon."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.fuzz.parsers import PARSERS
from harness.fuzz.run import SEEDS

BOUNDED = settings(max_examples=200, deadline=5_000, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(
    [
        "id",
        "status",
        "operation_status",
        "progress",
        "result",
        "done_count",
        "failed_count",
        "reports",
        "errors",
        "results",
        "failed",
        "row",
        "source_id",
        "code",
        "key",
        "message",
        "async_actions",
        "has_more",
        "properties",
        "schemas",
        "data",
        "type",
        "array",
        "eq",
        "lt",
        "maxLength",
        "objectType",
        "created_at",
        "form",
        "attempts",
        "at",
        "history",
        "as_text",
        "updated",
        "found",
        "access_token",
        "expires_in",
        "format",
        "version",
        "resource",
        "sha256",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)
DEEP = b"[" * 9_999
NASTY = [b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"{" * 5_000, DEEP, b'{"id":' * 3_000, b"1e999", b"-" * 999]


def of(name: str) -> Callable[[bytes], object]:
    return PARSERS[name]


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """Cut, repeat, and overwrite parts of something valid."""
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 8))] = draw(
            st.binary(max_size=6) | st.sampled_from([b"\n", b'"', b"\r", b"\x00", b",", b"{}", b"null", b"9" * 400])
        )
    return bytes(content)


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("content", NASTY, ids=lambda content: repr(content[:8]))
def test_nasty_bytes_are_no_surprise(name: str, content: bytes) -> None:
    of(name)(content)
    of(name)(SEEDS[name] + content)


@pytest.mark.parametrize("name", PARSERS)
def test_bytes_of_any_kind_are_no_surprise(name: str) -> None:
    @BOUNDED
    @given(content=st.binary(max_size=300) | mutated(SEEDS[name]))
    def any_bytes(content: bytes) -> None:
        of(name)(content)

    any_bytes()


@pytest.mark.parametrize("name", ["answers", "failures_jsonl", "jsonl", "report", "state_file"])
def test_json_of_any_form_is_no_surprise(name: str) -> None:
    @BOUNDED
    @given(value=JSON)
    @example(value={"result": {"done_count": 10**400}})
    def any_json(value: object) -> None:
        of(name)(json.dumps(value).encode())

    any_json()


@BOUNDED
@given(database=mutated(b"SQLite format 3\x00" + bytes(84)), resource=st.sampled_from(["customers", "products", ""]))
def test_a_state_file_with_the_right_digest_of_nonsense_is_no_surprise(database: bytes, resource: str) -> None:
    head = {"format": "voucherify-sync-state", "version": 1, "resource": resource, "sync": "sync"}
    digest = hashlib.sha256(database).hexdigest()
    of("state_file")(json.dumps({**head, "sha256": digest}).encode() + b"\n" + database)


@pytest.mark.parametrize("name", ["jsonl", "csv", "csv_import", "report"])
def test_what_a_parser_takes_of_memory_is_bounded(name: str) -> None:
    line = {"jsonl": b'{"source_id": "c1"}\n', "report": b"c1,true,true\n"}.get(name, b"c1,Ann\n")
    head = SEEDS[name].splitlines(keepends=True)[0]
    content = head + line * 100_000
    tracemalloc.start()
    try:
        of(name)(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(content) + 30_000_000
