"""One sync with a mixture of faults."""

from __future__ import annotations

import random
from collections import Counter

from airflow_provider_voucherify.sync.types.text import counted
from harness.faults.cases import FAULTS, SCRIPTED, Place
from harness.faults.scene import Scene, counts, judge, scene

MOST_REQUESTS = 1_000
_TOO_SLOW = ("1 GB", "time-out", "for ever")
_QUICK = [fault for fault in FAULTS if not any(word in fault[0] for word in _TOO_SLOW)]


def run_sync(seed: int, tries: int) -> tuple[Counter[str], list[str]]:
    """
    Run a sync until it ends or its tries are used up; then end the faults and let it try once more.

    :returns: what happened, counted, and what must not be, in words.
    """
    chance = random.Random(seed)
    rows = chance.randint(1, 12)
    extra = {"auth_method": chance.choice(["api_keys", "oauth"])}
    options = {"result_shape": chance.choice(["full", "full", "full", "several_reports", "no_report", "errors_only"])}
    settings = {"requests": {"max_records": 2, "max_in_flight": chance.randint(1, 3)}}
    with scene(rows, options=options, extra=extra, settings=settings) as place:
        armed = [_arm(place, chance) for _ in range(chance.randint(0, 5))]
        ended = place.task.run(tries)
        errors = len([error for error in ended.tries if error is not None])
        healed = ended.state == "failed" and ended.summary is None
        if healed:
            place.heal()
            ended = place.task.run(2)
        judgement = judge(place, ended)
        summary = ended.summary or {}
        told = Counter(
            {
                "syncs": 1,
                "faults armed": len(armed),
                "failed tries": errors,
                "syncs that ended while faults lasted": not healed,
                "rows": rows,
                "rows confirmed": summary.get("succeeded") or 0,
                "rows not reported": summary.get("not_reported") or 0,
                "rows failed": summary.get("failed") or 0,
                "requests sent again, and counted": summary.get("resubmitted", 0),
                "requests": place.requests,
                "records lost": judgement.lost,
                "records sent twice and not counted": judgement.twice,
            }
        )
    violations = [
        *([f"{counted(judgement.lost, 'record')} lost"] if judgement.lost else []),
        *([f"{counted(judgement.twice, 'record')} sent twice"] if judgement.twice else []),
        *([counted(place.requests, "request")] if place.requests > MOST_REQUESTS else []),
        *(["no summary"] if ended.summary is None else []),
    ]
    if violations:
        what = counts(summary) if summary else repr(ended.tries[-1])
        violations.append(f"after {'; '.join(armed)}: {what}")
    return told, violations


def _arm(place: Scene, chance: random.Random) -> str:
    """Arm one fault, and return what it is."""
    if chance.random() < 0.15:
        name, script = chance.choice(SCRIPTED)
        place.voucherify.next_actions(**script)
        return name
    name, make, places = chance.choice(_QUICK)
    where: Place = chance.choice(places)
    times, after = chance.choice([1, 1, 2, 3, 6]), chance.randint(0, 4)
    place.voucherify.misbehave(where, make(), times=times, after=after)
    return f"{name} at {where} ({counted(times, 'time')}, after {after})"
