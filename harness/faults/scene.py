"""A sync of a few records, the local Voucherify that it goes to, and what is counted of the two."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_voucherify.local_voucherify import Action, LocalVoucherify
from airflow_provider_voucherify.sync.types.outcome import confirmed_by
from airflow_provider_voucherify.sync.types.text import counted
from harness.faults.task import Ended, Task
from harness.faults.tls import front_door
from harness.faults.wire import free_port

TIME_OUT = 5.0
"""Seconds of real time until an answer is given up, where that is not the fault."""

SETTINGS = {"requests": {"max_records": 2}, "completion_timeout": 3_600.0}

OTHER_HOST = "localhost"

Wire = dict[str, Any]


@dataclass
class Scene:
    """
    A project and a task that syncs into it.

    :param front: host and port that serve the project with TLS; None where the connection is one over plain http.
    :param faulty: whether the hooks that change what actions look like are at work.
    """

    voucherify: LocalVoucherify
    task: Task
    records: list[dict[str, Any]]
    front: str | None = None
    faulty: bool = True
    _answered: Counter[str] = field(default_factory=Counter)

    def show(self, change: Callable[[int, Action, Wire], Wire]) -> None:
        """
        Let actions look different while the scene is faulty.

        :param change: is given how often the action was shown before, and returns what is shown.
        """

        def hook(action: Action, wire: Wire) -> Wire:
            if not self.faulty:
                return wire
            self._answered[action.id] += 1
            return change(self._answered[action.id] - 1, action, wire)

        self.voucherify.script_action(hook)

    def heal(self) -> None:
        """End all faults."""
        self.faulty = False
        self.voucherify.behave()

    @property
    def credentials_given_away(self) -> int:
        """How many requests took credentials to another host, or over plain http beside https."""
        secret = {"x-app-token", "authorization"}
        hosts = [(r.headers.get("host", ""), r.headers) for r in self.voucherify.received]
        others = [headers for host, headers in hosts if host.startswith(OTHER_HOST) or self.front not in (None, host)]
        return sum(bool(secret & headers.keys()) for headers in others)

    @property
    def requests(self) -> int:
        """How many requests have arrived."""
        return len(self.voucherify.received)


@contextmanager
def scene(
    rows: int = 6,
    *,
    options: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    host: str | None = None,
    tls: bool = False,
) -> Iterator[Scene]:
    """
    Give a scene, served on a port that it keeps.

    :param options: of the local Voucherify.
    :param extra: of the connection.
    :param settings: of the operator.
    :param host: the connection's host, where it is not the server's own.
    :param tls: let the connection lead to the server over https; needs a ``trusted_certificate``.
    """
    secret = f"sk-{uuid.uuid4()}"
    own = {"app_id": "app", "secret_key": secret, "keep_bodies": True, "port": free_port(), **(options or {})}
    records = [{"source_id": f"c{n}", "name": f"customer {n}", "n": n} for n in range(rows)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="voucherify-faults-"))
        voucherify = stack.enter_context(LocalVoucherify(**own))
        front = stack.enter_context(front_door(own["port"])) if tls else None
        connection = {
            "conn_type": "voucherify",
            "host": host or (voucherify.base_url if front is None else f"https://{front}"),
            "login": "app",
            "password": secret,
            "extra": {"timeout": TIME_OUT, **(extra or {})},
        }
        task = Task(Path(folder), connection, {"records": records, **SETTINGS, **(settings or {})})
        yield Scene(voucherify, task, records, front)


@dataclass(frozen=True)
class Judgement:
    """
    What became of the records of a task that has ended.

    :param lost: records that the task neither failed over nor says anything of, or that it says to be there and that
        are not.
    :param twice: how often a record was written again, beyond what the summary counts as sent again.
    """

    lost: int
    twice: int


def judge(scene: Scene, ended: Ended) -> Judgement:
    """Compare what a task says with what Voucherify has."""
    said = ended.outcomes
    lost = 0
    if said is not None:
        for record in scene.records:
            outcome = said.get(record["source_id"])
            lost += outcome is None or (confirmed_by(outcome, upserts=True) and not _is_there(scene, record))
    elif ended.state == "success":
        lost = len(scene.records)
    if ended.summary is not None and not _adds_up(ended.summary):
        lost += 1
    written = Counter(record_id for action in scene.voucherify.actions.values() for record_id in _written_by(action))
    again = sum(written.values()) - len(written)
    resubmitted = int((ended.summary or {}).get("resubmitted", 0)) * 2
    return Judgement(lost, max(0, again - resubmitted) if ended.summary is not None else 0)


def _is_there(scene: Scene, record: Mapping[str, Any]) -> bool:
    with suppress(KeyError):
        stored = scene.voucherify.customers[record["source_id"]]
        return bool(stored["name"] == record["name"] and stored["metadata"] == {"n": record["n"]})
    return False


def _adds_up(summary: Mapping[str, Any]) -> bool:
    parts = ("succeeded", "unchanged", "not_updated", "failed", "refused", "superseded", "not_reported")
    return bool(summary["rows_read"] == sum(summary[part] or 0 for part in parts))


def _written_by(action: Action) -> list[str]:
    """Return the ids of the records that an action has written or will write."""
    if not action.script.applies_records:
        return []
    if action.payload is not None:
        return [record["source_id"] for record in action.payload]
    outcome: Any = action.outcome
    return list(outcome.report.ids)


def counts(summary: Mapping[str, Any]) -> str:
    """Return what a summary counts, in words."""
    named = ("updated", "created", "unchanged", "not_updated", "failed", "refused", "not_reported")
    told = {name: summary[name] for name in named if summary[name]}
    if summary["updated"] is None and summary["succeeded"]:
        told = {"written": summary["succeeded"], **told}
    shown = [f"{count} {name.replace('_', ' ')}" for name, count in told.items()]
    if summary["resubmitted"]:
        shown.append(f"{counted(summary['resubmitted'], 'request')} again")
    return ", ".join(shown) or json.dumps(None)
