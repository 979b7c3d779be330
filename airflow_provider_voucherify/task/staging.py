"""What was sent, kept while its outcome is unknown and the task has no process."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from hashlib import blake2b
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Protocol, Self

from airflow_provider_voucherify.models.errors import VoucherifyError

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.batches.growing_file import GrowingFile
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.rows.failure_lines import EarlierFailures
    from airflow_provider_voucherify.sync.state.ledger import Ledger

log = logging.getLogger(__name__)

_STAGED = "staged-"
_UNTIL = "until.json"

_KEPT_FOR = 7 * 24 * 3600
"""Seconds after a task's end time before which its staged records are never removed."""


class Folder(Protocol):
    """Files and folders by name: what ``storage.report_folder`` and a database table offer."""

    @property
    def uri(self) -> str:
        """Where it is, for messages."""

    def prepare(self) -> None:
        """Create it if necessary, and check that it can be used, since later would be too late."""

    def write(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for writing; it appears complete or not at all."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield a file's lines, none if there is no such file."""

    def fetch(self, name: str, to: IO[bytes]) -> bool:
        """Copy a file into a local one; False if there is no such file."""

    def read_each(self, prefix: str, name: str) -> Iterator[tuple[str, bytes]]:
        """Yield the folders whose names have a prefix, and the content of a file in them."""

    def remove_folder(self, name: str) -> None:
        """Remove a folder, if it is there, with the files in it."""


class StagedRecords:
    """
    What was sent, kept while the task is deferred and has no process.

    It contains the source's data, so it is removed as soon as the outcome is known or the try has failed. If nothing is
    left to do that (the task is marked or cleared while it is deferred, the trigger fails), the next try removes it, by
    its name. If no try followed, or a worker with another disk resumed the task, ``remove_forgotten`` removes it.

    :param folder: where to keep it, in a folder ``staged-…`` with the bodies, their ids and the refused rows.
    :param name: of the task instance, see ``staged_name``.
    :param batches: number of bodies; needed to read one.
    """

    def __init__(self, folder: Folder, name: str, batches: int = 0) -> None:
        self._folder = folder
        self._name = f"{_STAGED}{name}"
        self._ids, self._refused, self._set_aside = (
            f"{self._name}/{file}.jsonl" for file in ("ids", "refused", "set_aside")
        )
        self._failed_before, self._ledger, self._state = (
            f"{self._name}/{file}.sqlite" for file in ("failed_before", "ledger", "state")
        )
        self._bodies = [f"{self._name}/{number:05}.json" for number in range(1, batches + 1)]
        self._fetched: EarlierFailures | None = None
        self._fetched_ids: GrowingFile | None = None
        self._places_of_ids: list[tuple[int, int]] = []
        self._is_kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was staged, unless it is to be kept, and free the disk space."""
        if not self._is_kept:
            self.discard()
        for fetched in (self._fetched, self._fetched_ids):
            if fetched is not None:
                fetched.close()

    def keep(self) -> None:
        """Keep it: the task is deferred again, and needs it when it resumes."""
        self._is_kept = True

    def stage(self, plan: Plan, until: float) -> None:
        """
        Stage all of a plan, or nothing.

        :param until: latest time at which the task resumes, Unix epoch seconds.
        """
        with ExitStack() as undo:
            undo.callback(self.discard)
            self._stage(plan, until)
            undo.pop_all()

    def _stage(self, plan: Plan, until: float) -> None:
        from msgspec.json import encode

        with self._folder.write(f"{self._name}/{_UNTIL}") as file:
            file.write(json.dumps({"until": until}).encode())
        for batch in plan.batches:
            with self._folder.write(self._bodies[batch.number - 1]) as file:
                file.writelines(batch.body())
        ids = (encode(batch.ids()) + b"\n" for batch in plan.batches)
        refused, set_aside = plan.refused_lines(), plan.set_aside_lines()
        for name, lines in ((self._ids, ids), (self._refused, refused), (self._set_aside, set_aside)):
            with self._folder.write(name) as file:
                file.writelines(lines)
        if plan.failed_before:
            with self._folder.write(self._failed_before) as file:
                plan.failed_before.save(file)
        if plan.ledger is not None:
            with self._folder.write(self._state) as file:
                plan.ledger.save_state(file)
            with self._folder.write(self._ledger) as file:
                plan.ledger.save(file)

    def check(self) -> None:
        """
        Check that what was staged is there.

        :raises VoucherifyError: it is not; a retry stages it again.
        """
        if self._folder.read(self._refused) is None:
            raise self._lost()

    @contextmanager
    def ledger(self) -> Iterator[Ledger | None]:
        """Open the sync's ledger again; None if there is none."""
        from airflow_provider_voucherify.sync.state.ledger import Ledger

        with ExitStack() as stack:
            with TemporaryFile(prefix="voucherify-") as saved, TemporaryFile(prefix="voucherify-") as state:
                if not self._folder.fetch(self._ledger, saved) or not self._folder.fetch(self._state, state):
                    yield None
                    return
                ledger = stack.enter_context(Ledger.restore(saved, state))
            yield ledger

    @property
    def failed_before(self) -> EarlierFailures:
        """What an earlier sync's ``failures.jsonl`` says of records that were sent again, by id."""
        from airflow_provider_voucherify.sync.rows.failure_lines import EarlierFailures

        if self._fetched is None:
            with TemporaryFile(prefix="voucherify-") as saved:
                self._fetched = EarlierFailures(saved if self._folder.fetch(self._failed_before, saved) else None)
        return self._fetched

    def ids(self, number: int) -> list[str]:
        """
        Return the ids of the batch with a number.

        :raises VoucherifyError: they were removed from the folder.
        """
        from msgspec.json import decode

        from airflow_provider_voucherify.sync.batches.growing_file import GrowingFile

        if self._fetched_ids is None:
            fetched = GrowingFile()
            self._places_of_ids = list(map(fetched.add, self._folder.lines(self._ids)))
            self._fetched_ids = fetched
        if number > len(self._places_of_ids):
            raise self._lost()
        return decode(self._fetched_ids.read(*self._places_of_ids[number - 1]), type=list[str])

    def body(self, number: int) -> bytes:
        """
        Return the body of the batch with a number.

        :raises VoucherifyError: it was removed from the folder.
        """
        return self._read(self._bodies[number - 1])

    def refused_lines(self) -> Iterator[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""
        return self._folder.lines(self._refused)

    def set_aside_lines(self) -> Iterator[bytes]:
        """Return the records that have failed too often as lines of ``set_aside.jsonl``."""
        return self._folder.lines(self._set_aside)

    def remove(self) -> None:
        """Remove what any try of the task instance has staged."""
        self._folder.remove_folder(self._name)

    def discard(self) -> None:
        """Remove what was staged; if that fails, warn instead of failing a task that is done."""
        try:
            self.remove()
        except Exception:
            log.warning("What was kept while the task waited cannot be removed", exc_info=True)

    def _read(self, name: str) -> bytes:
        content = self._folder.read(name)
        if content is None:
            raise self._lost()
        return content

    def _lost(self) -> VoucherifyError:
        return VoucherifyError(
            f"what was kept in {self._folder.uri} while the task waited is not there: it has to be a place that all "
            "workers share; a retry reads the source again and waits for what was sent"
        )


def remove_forgotten(folder: Folder) -> None:
    """Remove what was staged for tasks that must have ended a week ago."""
    for name, about in list(folder.read_each(_STAGED, _UNTIL)):
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(about)["until"] + _KEPT_FOR < time.time():
                folder.remove_folder(name)


def staged_name(dag_id: str, task_id: str, run_id: str, map_index: int | None) -> str:
    """Name what a task instance stages, the same for all its tries: a readable part and a digest."""
    mapped = None if map_index is None or map_index < 0 else map_index
    whole = json.dumps([dag_id, task_id, run_id, mapped])
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", f"{dag_id}-{task_id}")[:60]
    return f"{readable}-{blake2b(whole.encode(), digest_size=8).hexdigest()}"


class PlannedRecords:
    """What was sent, straight from the plan that is still open."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @contextmanager
    def ledger(self) -> Iterator[Ledger | None]:
        """Yield the plan's ledger."""
        yield self._plan.ledger

    def ids(self, number: int) -> list[str]:
        """Return the ids of the batch with a number."""
        return self._plan.batches[number - 1].ids()

    def body(self, number: int) -> bytes:
        """Return the body of the batch with a number."""
        return b"".join(self._plan.batches[number - 1].body())

    def refused_lines(self) -> Iterator[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""
        return self._plan.refused_lines()

    def set_aside_lines(self) -> Iterator[bytes]:
        """Return the records that have failed too often as lines of ``set_aside.jsonl``."""
        return self._plan.set_aside_lines()

    @property
    def failed_before(self) -> EarlierFailures:
        """What an earlier sync's ``failures.jsonl`` says of records that were sent again, by id."""
        return self._plan.failed_before
