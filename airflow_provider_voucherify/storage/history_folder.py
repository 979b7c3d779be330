"""The history of a sync's tries as files of a folder, none of which is ever written again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
from airflow_provider_voucherify.sync.types.outcome import TRY_COLUMNS
from airflow_provider_voucherify.sync.types.text import short_digest

_LINES_PER_LOOK_AT_THE_CLOCK = 1_000

_OUTCOMES = re.compile(r"try=(\d+)\..*\.jsonl")


class HistoryFolder:
    """
    A folder ``runs`` with a folder for each run, named by the run's id, and in it two files for each try.

    ``try=1.<id>.running.json`` is written when a try begins, ``try=1.<id>.success.json`` (or ``failed``, ``skipped``)
    when it ends, or ``…lost.json`` by a later try of the run if it never did. Each has one JSON object with the columns
    of the table ``runs`` (``warehouse.schema``) as far as they are known; times are ISO 8601 in UTC.

    :param folder: of the sync.
    :param run: names the run's folder.
    :param sync: columns that are the same for all tries: the sync's name and key.
    """

    def __init__(self, folder: StorageReportFolder, run: str, sync: Mapping[str, str]) -> None:
        self._folder = folder
        self._sync = sync
        self._run_folder = quote(run, safe="")
        self._run = f"runs/{self._run_folder}"

    def outcomes(self, try_number: int, try_id: str, ending: str) -> str:
        """Return where in the sync's folder the outcomes of a try are kept."""
        return f"outcomes/{self._run_folder}/try={try_number}.{try_id[:8]}.{ending}"

    def open(self, attempt: Mapping[str, Any]) -> None:
        """
        Write that a try begins, and of earlier tries of its run that never ended that they are lost.

        A try that is there already and has not ended is the same one: a sensor pokes again.
        """
        statuses = self._statuses()
        name = _name(attempt, statuses)
        if name in statuses:
            return
        for other, words in statuses.items():
            if words == ["running"] and (content := self._folder.read(f"{self._run}/{other}.running.json")):
                lost = {"status": "lost", "finished_at": _time(attempt["started_at"])}
                self._write(other, msgspec.json.decode(content) | lost)
        self._write(name, {**attempt, "status": "running"})

    def close(self, attempt: Mapping[str, Any]) -> None:
        """Write how a try ended."""
        name = _name(attempt, self._statuses())
        begun = self._folder.read(f"{self._run}/{_file_name(attempt, attempt['try_id'])}.running.json")
        started = {"started_at": msgspec.json.decode(begun)["started_at"]} if begun else {}
        self._write(name, {**attempt, **started})

    def tries(self, run_key: str) -> list[dict[str, Any]]:
        """Return the tries of a run, oldest first; of one that has ended what was written at its end."""
        found = []
        for name, statuses in self._statuses().items():
            status = next((one for one in statuses if one != "running"), "running")
            attempt = msgspec.json.decode(self._folder.read(f"{self._run}/{name}.{status}.json") or b"{}")
            if attempt.get("run_key") == run_key:
                found.append({column: attempt.get(column) for column in TRY_COLUMNS})
        return sorted(found, key=lambda one: str(one["started_at"]))

    def of_record(self, record_id: str, until: float) -> Iterator[dict[str, Any]]:
        """
        Yield the outcomes of a record in the run, those of the last try first, from files of JSON lines.

        :param until: when to stop, by ``time.monotonic()``.
        :raises TimeoutError: it is later than that.
        """
        needle = msgspec.json.encode(record_id)
        folder = f"outcomes/{self._run_folder}"
        files = {name: int(found[1]) for name in self._folder.names(folder) if (found := _OUTCOMES.fullmatch(name))}
        for file in sorted(files, key=files.__getitem__, reverse=True):
            for number, line in enumerate(self._folder.lines(f"{folder}/{file}")):
                if number % _LINES_PER_LOOK_AT_THE_CLOCK == 0 and time.monotonic() > until:
                    raise TimeoutError
                if needle in line and (outcome := msgspec.json.decode(line))["id"] == record_id:
                    yield {**outcome, "reason_key": outcome["key"], "try_number": files[file]}

    def _statuses(self) -> dict[str, list[str]]:
        """Return what is there of each try of the run."""
        statuses: dict[str, list[str]] = {}
        for file in self._folder.names(self._run):
            name, _, status = file.removesuffix(".json").rpartition(".")
            statuses.setdefault(name, []).append(status)
        return statuses

    def _write(self, name: str, attempt: Mapping[str, Any]) -> None:
        times = {key: _time(value) for key, value in attempt.items() if isinstance(value, float)}
        with self._folder.write(f"{self._run}/{name}.{attempt['status']}.json") as file:
            file.write(msgspec.json.encode({**self._sync, **attempt, **times}))


def _file_name(attempt: Mapping[str, Any], try_id: str) -> str:
    return f"try={attempt['try_number']}.{try_id[:8]}"


def _name(attempt: Mapping[str, Any], statuses: Mapping[str, list[str]]) -> str:
    """Return the name of a try's files, a new one if all of its names have ended."""
    try_id = attempt["try_id"]
    while True:
        name = _file_name(attempt, try_id)
        if statuses.get(name, ["running"]) == ["running"]:
            return name
        try_id = short_digest(try_id)


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")
