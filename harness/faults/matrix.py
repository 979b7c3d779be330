"""Runs the cases, one after the other, and judges each."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from airflow_provider_voucherify.compat import AirflowFailException
from airflow_provider_voucherify.sync.types.text import counted
from harness import ROOT
from harness.faults.cases import Case
from harness.faults.clock import JumpingClock
from harness.faults.scene import Scene, counts, judge, scene
from harness.faults.task import Ended
from harness.faults.wire import Outage
from harness.process import forget_peak, peak_mb, resident_mb


@dataclass(frozen=True)
class Row:
    """
    One row of the table.

    :param seen: what the user sees while the fault lasts.
    :param afterwards: what becomes of a further try when it has passed; empty where none is needed.
    :param requests: that Voucherify got in all.
    :param megabytes: by which the process grew.
    :param violations: what must not be, in words.
    """

    case: Case
    seen: str
    afterwards: str
    lost: int
    twice: int
    requests: int
    megabytes: float
    violations: tuple[str, ...]


def run_case(case: Case, clock: JumpingClock) -> Row:
    """Run one case and judge it."""
    forget_peak()
    base = resident_mb()
    with scene(options=case.options, extra=case.extra, settings=case.settings, tls=case.tls) as place:
        case.arm(place)
        with ExitStack() as stack:
            if case.outage is not None:
                stack.enter_context(_Interrupted(case, place, clock))
            ended = place.task.run(case.tries)
        seen, afterwards = _seen(ended), ""
        place.heal()
        if ended.state == "failed" and ended.summary is None:
            ended = place.task.run(1)
            afterwards = _seen(ended)
        judgement, requests = judge(place, ended), place.requests
        given_away = place.credentials_given_away
    megabytes = max(0.0, peak_mb() - base)
    violations = [
        *([f"{counted(judgement.lost, 'record')} lost"] if judgement.lost else []),
        *([f"{counted(judgement.twice, 'record')} sent twice"] if judgement.twice else []),
        *([counted(requests, "request")] if requests > case.most_requests else []),
        *([f"{megabytes:.0f} MB"] if megabytes > case.most_megabytes else []),
        *(["credentials given to another host"] if given_away else []),
        *(["does not recover"] if afterwards and ended.state == "failed" else []),
    ]
    return Row(case, seen, afterwards, judgement.lost, judgement.twice, requests, megabytes, tuple(violations))


def _seen(ended: Ended) -> str:
    errors = [_name(error) for error in ended.tries if error is not None]
    tried = " then ".join(f"{errors.count(name)} × {name}" for name in dict.fromkeys(errors))
    return f"{ended.state}: {'; '.join(filter(None, (tried, counts(ended.summary) if ended.summary else '')))}"


def _name(error: BaseException) -> str:
    """Name an error; one that fails a task for good is named by what it is about."""
    if type(error) is AirflowFailException and error.__cause__ is not None:
        return f"{_name(error.__cause__)} (not retried)"
    return type(error).__name__.removeprefix("Voucherify")


class _Interrupted:
    """
    Nobody serves the port: from the beginning, or from when all is submitted. It ends after some sleeps, or never.

    A submit that cannot connect sleeps between its attempts, and so does who polls.
    """

    def __init__(self, case: Case, place: Scene, clock: JumpingClock) -> None:
        self._case, self._scene, self._clock = case, place, clock
        self._outage = Outage(case.outage or "refused", int(place.voucherify.base_url.rpartition(":")[2]))
        self._state = "before"

    def __enter__(self) -> _Interrupted:
        if self._case.place != "poll":
            self._begin()
        self._clock.on_sleep = self._slept
        return self

    def __exit__(self, *error: object) -> None:
        self._clock.on_sleep = lambda: None
        if self._state == "during":
            self._end()

    def _slept(self) -> None:
        actions = len(self._scene.voucherify.actions)
        if self._state == "before" and actions * 2 == len(self._scene.records):
            self._begin()
        elif self._state == "during" and self._case.once:
            self._end()

    def _begin(self) -> None:
        self._scene.voucherify.stop()
        self._outage.__enter__()
        self._state = "during"

    def _end(self) -> None:
        self._state = "over"
        self._outage.__exit__(None, None, None)
        self._scene.voucherify.start()


def table(rows: Iterable[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| fault | at | how often | what the user sees | when it has passed | lost | twice | requests | MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [
            row.case.fault,
            row.case.place,
            "once" if row.case.once else "always",
            row.seen,
            row.afterwards,
            str(row.lost),
            str(row.twice),
            str(row.requests),
            f"{row.megabytes:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_page(rows: list[Row]) -> None:
    """Write ``docs/faults.md``."""
    text = f"""# Faults

What a user sees of everything that can go wrong between a sync and Voucherify. `make faults` runs it all and writes
this page; `make faults-random` mixes the faults over 500 syncs and checks every one of them.

Each row is a sync of six customers in three requests by `VoucherifyBulkUpdateOperator`, against the local Voucherify
with one fault at one place: the bulk requests (`submit`), the polls of async actions (`poll`), the request for an OAuth
token (`token`) or the download of the report (`report`). A fault comes once or always. A task has two tries while it
lasts (one where it is slow), and one more when it has passed. Errors are those of
`airflow_provider_voucherify.exceptions`, without `Voucherify`; where a task succeeded, they are those of earlier tries.
Waits for rate limits and pauses are jumped over, so that an hour passes at once.

- *lost*: records that the task says to be there and that are not, or of which it says nothing.
- *twice*: records that were written twice without being counted as sent again.
- *requests*: all that Voucherify got, the good ones included.
- *MB*: growth of the process, which the local Voucherify is part of.

{table(rows)}
"""
    (ROOT / "docs" / "faults.md").write_text(text, encoding="utf-8")
