"""The table of faults: what is armed, where, and how often."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_voucherify.local_voucherify import (
    Action,
    DropAfter,
    DropBefore,
    Fault,
    Malformed,
    SlowDrip,
    Status,
    Truncate,
)
from airflow_provider_voucherify.local_voucherify.misbehaviour import REPORTS_PATH
from harness.faults.scene import OTHER_HOST, Scene, Wire
from harness.faults.wire import Huge, Limited, Rewritten, Silence, as_json_lines, error_page, gateway_413

Place = Literal["submit", "poll", "token", "report"]
PLACES: tuple[Place, ...] = ("submit", "poll", "token", "report")

HOUR = 3_600.0
MOST_REQUESTS = 100
MOST_REQUESTS_IN_A_STORM = 2_000
MOST_MEGABYTES = 64.0
MOST_MEGABYTES_OF_AN_ANSWER = 400.0
"""An action's answer may have 256 MiB, since a batch of 10 MiB may have so many errors."""

TRIES = 2
"""Tries of a task while a fault lasts."""

BATCHES = 3
"""Requests that a sync takes."""

SHORT_TIME_OUT = 0.1
"""Seconds of real time until an answer is given up, where the fault is that none comes."""


@dataclass(frozen=True)
class Case:
    """
    One row of the matrix.

    :param arm: lets the fault befall the scene; for an outage of the network it does nothing.
    :param outage: what happens to connections instead.
    :param once: whether the fault passes by itself.
    :param tls: whether the connection is one over https.
    :param most_requests: the most requests until the task has ended.
    :param most_megabytes: by how much the process may grow.
    """

    fault: str
    place: Place
    arm: Callable[[Scene], None]
    once: bool
    outage: Literal["refused", "reset"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    tries: int = TRIES
    most_requests: int = MOST_REQUESTS
    most_megabytes: float = MOST_MEGABYTES
    tls: bool = False


def cases() -> Iterator[Case]:
    """Give all rows."""
    for name in ("refused", "reset"):
        yield from _outages(name)
    for fault, make, places in FAULTS:
        for place in places:
            for once in (True, False):
                if once or fault not in _SLOW or place in ("submit", "token"):
                    yield _armed(fault, place, make, once)
    yield from _of_actions()


def _outages(kind: Literal["refused", "reset"]) -> Iterator[Case]:
    fault = {"refused": "connection refused", "reset": "connection reset before the request was read"}[kind]
    for place in ("submit", "poll", "token"):
        for once in (True, False):
            yield _case(fault, place, lambda scene: None, once, outage=kind)


def _armed(fault: str, place: Place, make: Callable[[], Fault], once: bool, **fields: Any) -> Case:
    def arm(scene: Scene) -> None:
        scene.voucherify.misbehave(place, make(), times=1 if once else None)

    if "429" in fault and not once:
        fields |= {"most_requests": MOST_REQUESTS_IN_A_STORM, "tries": 1}
    if "time-out" in fault:
        fields |= {"extra": {"timeout": SHORT_TIME_OUT}, "tries": TRIES if once or place != "poll" else 1}
    if (fault == _SLOWEST and place == "poll") or fault == _ARRAY:
        fields |= {"most_megabytes": MOST_MEGABYTES_OF_AN_ANSWER}
    return _case(fault, place, arm, once, **fields)


def _case(fault: str, place: Place, arm: Callable[[Scene], None], once: bool, **fields: Any) -> Case:
    extra = dict(fields.pop("extra", {}))
    options = dict(fields.pop("options", {}))
    if place == "token":
        extra["auth_method"] = "oauth"
    return Case(fault, place, arm, once, extra=extra, options=options, **fields)


_CALLS: tuple[Place, ...] = ("submit", "poll", "token")
_READS: tuple[Place, ...] = ("poll", "token", "report")
_API: tuple[Place, ...] = ("submit", "poll")
_REPORT: tuple[Place, ...] = ("report",)


def _same(fault: Fault) -> Callable[[], Fault]:
    return lambda: fault


def _unlike(body: bytes) -> Callable[[], Fault]:
    return _same(Malformed(body))


_SLOWEST = "1 GB of text in a 200"
_ARRAY = "1 GB in one JSON array"
_LINE = "1 GB in one line"
_SLOW = frozenset((_SLOWEST, _ARRAY, _LINE, "1 GB of error text in a 500"))
_LONG_TEXT = "30 MB of error text in an action"
_LONG_MESSAGE = b'{"code": 500, "message": "'
_LONG_ACTION = b'{"id": "aa_1", "status": "DONE", "result": {"errors": [{"message": "'
_LONG_ID = b'{"async_action_id": "'

FAULTS: Sequence[tuple[str, Callable[[], Fault], tuple[Place, ...]]] = (
    ("connection closed after the request was read", _same(DropBefore()), PLACES),
    ("connection closed after the request was processed", _same(DropAfter()), PLACES),
    ("silence until the time-out", _same(Silence(processed=False)), PLACES),
    ("processed, then silence until the time-out", _same(Silence(processed=True)), _CALLS),
    ("slow drip", _same(SlowDrip(0.002, 32)), PLACES),
    ("slow drip, longer than the time-out", _same(SlowDrip(0.04, 8)), _CALLS),
    ("408", _same(Status(408)), PLACES),
    ("429 api_calls, Retry-After of a minute", _same(Limited("api_calls", retry_after=60)), PLACES),
    ("429 api_calls, X-Rate-Limit-Retry in a minute", _same(Limited("api_calls", retry_in=60)), PLACES),
    ("429 api_calls, Retry-After of an hour", _same(Limited("api_calls", retry_after=HOUR)), _CALLS),
    ("429 api_calls, X-Rate-Limit-Retry in an hour", _same(Limited("api_calls", retry_in=HOUR)), _CALLS),
    ("429 api_calls, no header that tells a wait", _same(Limited("api_calls")), PLACES),
    ("429 without any header", _same(Limited(None)), PLACES),
    ("429 api_calls, Retry-After: 0", _same(Limited("api_calls", retry_after=0)), PLACES),
    ("429 bulk_api_calls, Retry-After of an hour", _same(Limited("bulk_api_calls", retry_after=HOUR)), ("submit",)),
    ("429 bulk_api_calls, X-Rate-Limit-Retry in an hour", _same(Limited("bulk_api_calls", retry_in=HOUR)), ("submit",)),
    ("429 bulk_api_calls, no header that tells a wait", _same(Limited("bulk_api_calls")), ("submit",)),
    ("429 api_calls_cycle", _same(Limited("api_calls_cycle", retry_after=HOUR)), PLACES),
    ("500", _same(Status(500)), PLACES),
    ("502 with HTML", _same(Status(502, error_page(502), {"Content-Type": "text/html"})), PLACES),
    ("503 empty", _same(Status(503, b"")), PLACES),
    ("401", _same(Status(401)), PLACES),
    ("403 missing scope", _same(Status(403)), PLACES),
    ("404", _same(Status(404)), ("poll", "report")),
    ("413 in the gateway's shape", _same(Status(413, gateway_413())), ("submit",)),
    ("truncated JSON", _unlike(b'{"id": "aa_'), _CALLS),
    ("connection closed within the body", _same(Truncate(9)), PLACES),
    ("HTML with a 200", _unlike(error_page(200)), PLACES),
    ("an empty body with a 200", _unlike(b""), PLACES),
    ("an empty object with a 200", _unlike(b"{}"), PLACES),
    ("a list instead of an object", _unlike(b"[]"), PLACES),
    ("10,000 nested lists", _unlike(b"[" * 10_000), PLACES),
    ("1 GB of error text in a 500", _same(Huge(500, _LONG_MESSAGE, 1_000, b'"}')), PLACES),
    (_SLOWEST, _same(Huge(200, _LONG_ACTION, 1_000, b'"}]}}')), _CALLS),
    (_LINE, _same(Huge(200, b"source_id,found,updated\n", 1_000)), _REPORT),
    (_ARRAY, _same(Huge(200, b'["', 1_000, b'"]')), _REPORT),
    ("cut off between two rows", _same(Rewritten(lambda body: body[: body.index(b"\r\n", 30) + 2])), _REPORT),
    ("cut off within a row", _same(Rewritten(lambda body: body[:-9])), _REPORT),
    ("in Latin-1, with letters that are no UTF-8", _same(Rewritten(lambda b: b.replace(b"c0", b"c\xe9"))), _REPORT),
    ("in UTF-16", _same(Rewritten(lambda body: body.decode().encode("utf-16"))), _REPORT),
    ("with a byte order mark", _same(Rewritten(lambda body: b"\xef\xbb\xbf" + body)), _REPORT),
    ("with CRLF", _same(Rewritten(lambda body: body)), _REPORT),
    ("with LF", _same(Rewritten(lambda body: body.replace(b"\r\n", b"\n"))), _REPORT),
    (
        "with quoted newlines",
        _same(Rewritten(lambda body: body.replace(b"\r\n", b',"a\nb"\r\n'))),
        _REPORT,
    ),
    ("as JSON lines", _same(Rewritten(as_json_lines)), _REPORT),
    ("gzip-encoded", _same(Rewritten(gzip.compress, {"Content-Encoding": "gzip"})), _REPORT),
    ("said to be gzip-encoded, and is not", _same(Rewritten(bytes, {"Content-Encoding": "gzip"})), _REPORT),
    ("redirected for ever", _same(Status(302, b"", {"Location": "/v1/reports/elsewhere"})), _REPORT),
    ("expired, 410", _same(Status(410)), _REPORT),
)


def _of_actions() -> Iterator[Case]:
    """Give the faults of what an action says of itself, and of where its report is."""
    for fault, change, finally_well in _SHOWN:
        for once in (True, False) if finally_well else (False,):

            def arm(scene: Scene, change: Any = change, once: bool = once) -> None:
                scene.show(lambda before, action, wire: wire if once and before >= 2 else change(before, action, wire))

            most = {"most_megabytes": MOST_MEGABYTES_OF_AN_ANSWER} if fault == _LONG_TEXT else {}
            yield _case(fault, "report" if "report" in fault else "poll", arm, once, most_requests=200, **most)
    yield _case("redirected to another host", "report", _redirect, False)
    yield _case(
        "the report's address on plain http, and the API on https", "report", lambda scene: None, False, tls=True
    )
    yield _case("redirected from https to plain http", "report", _redirect_to_plain_http, False, tls=True)
    for fault, script in SCRIPTED:
        for once in (True, False):

            def script_next(scene: Scene, script: Mapping[str, Any] = script, once: bool = once) -> None:
                scene.voucherify.next_actions(times=1 if once else BATCHES * TRIES, **script)

            yield _case(fault, "poll", script_next, once)


def _redirect(scene: Scene) -> None:
    """Send whoever fetches a report to the same server by another name, which counts as another host."""
    elsewhere = scene.voucherify.base_url.replace("127.0.0.1", OTHER_HOST) + f"{REPORTS_PATH}elsewhere"
    fault = Status(302, b"", {"Location": elsewhere})
    scene.voucherify.misbehave(f"{REPORTS_PATH}report_", fault, times=None)


def _redirect_to_plain_http(scene: Scene) -> None:
    """Offer the report on https, and send whoever fetches it to the same server's plain http."""
    plain, front = scene.voucherify.base_url, f"https://{scene.front}"

    def show(before: int, action: Action, wire: Wire) -> Wire:
        if "result" not in wire:
            return wire
        reports = [url.replace(plain, front) for url in wire["result"]["reports"]]
        return {**wire, "result": {**wire["result"], "reports": reports}}

    scene.show(show)
    fault = Status(302, b"", {"Location": f"{plain}{REPORTS_PATH}elsewhere"})
    scene.voucherify.misbehave(f"{REPORTS_PATH}report_", fault, times=None)


def _with(**fields: Any) -> Callable[[int, Action, Wire], Wire]:
    return lambda before, action, wire: {**wire, **fields}


def _unfinished(**fields: Any) -> Callable[[int, Action, Wire], Wire]:
    def change(before: int, action: Action, wire: Wire) -> Wire:
        return {**{name: value for name, value in wire.items() if name != "result"}, **fields}

    return change


def _going_back(before: int, action: Action, wire: Wire) -> Wire:
    return _unfinished(status="IN_PROGRESS", progress=max(0, 90 - 10 * before))(before, action, wire)


def _result(**fields: Any) -> Callable[[int, Action, Wire], Wire]:
    def change(before: int, action: Action, wire: Wire) -> Wire:
        return {**wire, "result": {**wire["result"], **fields}} if "result" in wire else wire

    return change


_SHOWN: Sequence[tuple[str, Callable[[int, Action, Wire], Wire], bool]] = (
    ("an unknown status", _unfinished(status="PAUSED"), True),
    ("no status", _unfinished(status=None), True),
    ("never ends", _unfinished(status="IN_PROGRESS", progress=50), True),
    ("progress that goes back", _going_back, True),
    ("progress of 100, unfinished", _unfinished(status="IN_PROGRESS", progress=100), True),
    ("result of another form", _with(result=["what", 1]), False),
    ("counts without errors that contradict them", _result(done_count=0, failed_count=2), False),
    ("counts larger than the batch", _result(done_count=10**9, failed_count=10**9), False),
    ("counts that are no numbers", _result(done_count="two", failed_count=-1), False),
    ("errors of records that were not sent", _result(errors=[{"source_id": "stranger", "message": "?"}] * 3), False),
    ("counts without a report", _result(reports=[]), False),
    (_LONG_TEXT, _result(errors=[{"message": "x" * 30_000_000}], failed_count=1), False),
    ("the report's address on a port that nobody serves", _result(reports=["http://127.0.0.1:9/report"]), False),
    ("the report's address is not a URL", _result(reports=["{{report}}"]), False),
)

SCRIPTED: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("FAILED as a whole", {"status": "FAILED"}),
    (
        "DONE with zero done",
        {
            "applies_records": False,
            "result_fields": {"done_count": 0, "failed_count": 0, "reports": [], "errors": []},
            "operation_status": "UNKNOWN",
        },
    ),
    (
        "DONE with nothing said",
        {"applies_records": False, "without": ["result"], "operation_status": "UNKNOWN"},
    ),
)
