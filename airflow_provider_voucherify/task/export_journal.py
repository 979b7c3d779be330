"""Which export a task instance has created, so that a retry goes on with it, and a try after a clear does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.sending.journal import StateStore, Try

KEY = "voucherify_export"
VERSION = 1


class Created(NamedTuple):
    """
    An export.

    :param created_at: by the clock of the worker that created it, Unix epoch seconds.
    :param resumed: whether an earlier try has created it.
    """

    export_id: str
    created_at: float
    resumed: bool = False


class ExportJournal:
    """
    The export of a task instance, in a store that all its tries share.

    It counts for the try that created it and for later tries that agree with it, as the entries of
    ``sync.sending.journal`` do, and only while the same is asked for. When it was asked for is written down before the
    call that creates it, so that a retry can look for an export whose creation was not answered.

    :param store: None keeps nothing between tries.
    :param attempt: the present try.
    :param project: that the export is of.
    :param request: what is asked for.
    """

    def __init__(self, store: StateStore | None, attempt: Try, project: str, request: Mapping[str, Any]) -> None:
        self._store = store
        self._attempt = asdict(attempt)
        asked = hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self._same = {"version": VERSION, "project": project, "asked": asked}

    def find(self) -> Created | None:
        """Return the export that an earlier try has created, if this one is to go on with it."""
        kept = self._kept()
        return None if kept.get("export_id") is None else Created(kept["export_id"], kept["created_at"], resumed=True)

    def asked_at(self) -> float | None:
        """Return when an earlier try has asked for an export and got no answer; None if none has."""
        return self._kept().get("asked_at")

    def ask(self, at: float) -> None:
        """Write down that an export is about to be asked for."""
        self._write(export_id=None, asked_at=at)

    def keep(self, created: Created) -> None:
        """Write down an export that has just been created."""
        self._write(export_id=created.export_id, created_at=created.created_at)

    def forget(self) -> None:
        """Let the next try create another one."""
        self._write(export_id=None)

    def _kept(self) -> Mapping[str, Any]:
        """Return what an earlier try has written down, if it counts for this one."""
        kept = self._store.get(KEY) if self._store is not None else None
        if not isinstance(kept, Mapping) or any(kept.get(name) != value for name, value in self._same.items()):
            return {}
        of_clear = ("max_tries",) if self._is(kept, "try_number") else ("max_tries", "retries", "clear_number")
        return kept if self._is(kept, *of_clear) else {}

    def _is(self, kept: Mapping[str, Any], *names: str) -> bool:
        return all(kept.get(name) == self._attempt[name] for name in names)

    def _write(self, **export: Any) -> None:
        if self._store is not None:
            self._store.set(KEY, {**self._same, **self._attempt, **export})
