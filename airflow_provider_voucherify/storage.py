"""The folder of ``report_path``: reports, failures, and what was sent while its outcome is not known."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING

from airflow_provider_voucherify.compat import ObjectStoragePath, open_for_reading

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.failures import EarlierFailures
    from airflow_provider_voucherify.sync.ledger import Ledger
    from airflow_provider_voucherify.sync.plan import Plan

_BYTES_PER_COPY = 1_048_576


class StorageReportFolder:
    """
    A folder in object storage or on a local disk.

    :param path: URI or local path, e.g. ``s3://conn_id@bucket/voucherify`` or ``/var/reports``.
    """

    def __init__(self, path: str) -> None:
        self._path = ObjectStoragePath(path)

    @property
    def uri(self) -> str:
        """Where the folder is, as it was given."""
        return str(self._path)

    def prepare(self) -> None:
        """Make the folder, where the storage has such a thing; fails early where it cannot be written to."""
        self._path.mkdir(parents=True, exist_ok=True)

    def has(self, path: str, name: str) -> bool:
        """Say whether a path is the one of the folder's file of that name."""
        return str(ObjectStoragePath(path)) == str(self._path / name)

    def write(self, name: str) -> IO[bytes]:
        """Open a file of the folder for writing, replacing it."""
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        opened: IO[bytes] = file.open("wb")  # type: ignore[no-untyped-call]
        return opened

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None where there is no such file."""
        file = self._path / name
        return bytes(file.read_bytes()) if file.exists() else None

    def lines(self, name: str) -> Iterator[bytes]:
        """Give a file's lines, none where there is no such file."""
        with suppress(FileNotFoundError), open_for_reading(str(self._path / name)) as file:
            yield from file

    def put(self, name: str, source: Path) -> None:
        """Copy a local file into the folder."""
        with source.open("rb") as file, self.write(name) as copy:
            shutil.copyfileobj(file, copy)

    def fetch(self, name: str, to: Path) -> bool:
        """Copy a file of the folder to local disk; False where there is no such file."""
        return fetch(str(self._path / name), to)

    def names(self) -> list[str]:
        """Return the names of what is in it."""
        try:
            return [file.name for file in self._path.iterdir()]
        except (FileNotFoundError, NotADirectoryError):  # of an object store: nothing has been written to it yet
            return []

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            (self._path / name).unlink()

    def remove_folder(self, name: str) -> None:
        """Remove a folder, if it is there, with the files in it."""
        folder = StorageReportFolder(str(self._path / name))
        for file in folder.names():
            folder.remove(file)
        with suppress(OSError):  # not every storage has folders that are left then
            (self._path / name).rmdir()


class StagedRecords:
    """
    What was sent, kept in the report folder while the task is deferred and has no process to remember it.

    They have the source's data, so they are removed as soon as the outcome is known or the try has failed. Where
    nobody is left to do that (the task is marked or cleared while it is deferred, the trigger fails), the next try
    does it, which finds them by their name.

    :param folder: where; it gets a folder ``staged-…`` with the bodies and the refused rows.
    :param name: of the task instance, see ``staged_name``.
    :param batches: how many bodies there are; needed to read one.
    """

    def __init__(self, folder: StorageReportFolder, name: str, batches: int = 0) -> None:
        self._folder = folder
        self._name = f"staged-{name}"
        self._refused, self._set_aside, self._failed_before, self._ledger, self._state = (
            f"{self._name}/{file}"
            for file in ("refused.jsonl", "set_aside.jsonl", "failed_before.sqlite", "ledger.sqlite", "state.sqlite")
        )
        self._bodies = [f"{self._name}/{number:05}.json" for number in range(1, batches + 1)]
        self._fetched: EarlierFailures | None = None

    def stage(self, plan: Plan) -> None:
        """Write down everything of a plan."""
        for batch in plan.batches:
            with self._folder.write(self._bodies[batch.number - 1]) as file:
                file.writelines(batch.body())
        for name, lines in ((self._refused, plan.refused_lines()), (self._set_aside, plan.set_aside_lines())):
            with self._folder.write(name) as file:
                file.writelines(lines)
        with TemporaryDirectory(prefix="voucherify-") as local:
            saved, state = Path(local, "saved"), Path(local, "state")
            if plan.failed_before:
                plan.failed_before.save(saved)
                self._folder.put(self._failed_before, saved)
            if plan.ledger is not None:
                plan.ledger.save(saved, state)
                self._folder.put(self._state, state)
                self._folder.put(self._ledger, saved)

    @contextmanager
    def ledger(self) -> Iterator[Ledger | None]:
        """Open the sync's ledger again; None where there is none."""
        from airflow_provider_voucherify.sync.ledger import Ledger

        with TemporaryDirectory(prefix="voucherify-") as local:
            saved, state = Path(local, "ledger"), Path(local, "state")
            if not self._folder.fetch(self._ledger, saved) or not self._folder.fetch(self._state, state):
                yield None
                return
            with Ledger.restore(saved, state) as ledger:
                yield ledger

    @property
    def failed_before(self) -> EarlierFailures:
        """What an earlier sync's ``failures.jsonl`` says of records that were sent again, by id."""
        from airflow_provider_voucherify.sync.failures import EarlierFailures

        if self._fetched is None:
            with TemporaryDirectory(prefix="voucherify-") as local:
                saved = Path(local, "saved")
                self._fetched = EarlierFailures(saved if self._folder.fetch(self._failed_before, saved) else None)
        return self._fetched

    def body(self, number: int) -> bytes | None:
        """Return the body of the batch with a number, or None where it was removed from the folder."""
        return self._folder.read(self._bodies[number - 1])

    def refused_lines(self) -> Iterator[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""
        return self._folder.lines(self._refused)

    def set_aside_lines(self) -> Iterator[bytes]:
        """Return the records that have failed too often as lines of ``set_aside.jsonl``."""
        return self._folder.lines(self._set_aside)

    def remove(self) -> None:
        """Remove what was staged, whatever try of the task instance has left it."""
        self._folder.remove_folder(self._name)

    def close(self) -> None:
        """Remove what was fetched to local disk."""
        if self._fetched is not None:
            self._fetched.close()


def staged_name(dag_id: str, task_id: str, run_id: str, map_index: int | None) -> str:
    """Name what a task instance stages, the same for all its tries: what a person may read of it, and a digest."""
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
        """Give the plan's ledger."""
        yield self._plan.ledger

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

    def close(self) -> None:
        """Do nothing: the plan is closed by whoever opened it."""


def open_source(path: str) -> IO[bytes]:
    """
    Open the file of ``path=`` for reading: a local path or an object storage URI.

    A ``.parquet`` file of an object store is first copied to an unnamed file on local disk: it is read column by
    column in small pieces, which would fetch most of it several times.
    """
    source = ObjectStoragePath(path)
    file = open_for_reading(path)
    if source.protocol in ("", "file") or PurePosixPath(path.partition("?")[0]).suffix.lower() != ".parquet":
        return file
    with ExitStack() as undo, file:
        copy = undo.enter_context(TemporaryFile(prefix="voucherify-"))
        shutil.copyfileobj(file, copy, _BYTES_PER_COPY)
        copy.seek(0)
        undo.pop_all()
    return copy


def fetch(path: str, to: Path) -> bool:
    """
    Copy a file, local or in object storage, to local disk; False where there is no such file.

    :raises OSError: it cannot be found out whether there is one, or what is in it.
    """
    try:
        with ObjectStoragePath(path).open("rb") as file, to.open("wb") as copy:  # type: ignore[no-untyped-call]
            shutil.copyfileobj(file, copy)
    except (
        FileNotFoundError
    ):  # asking whether it exists would take an object store that is out of order for an empty one
        return False
    return True


def first_line(path: str, most: int = 10_000) -> bytes:
    """Return the first line of a file, local or in object storage; nothing where there is no such file."""
    try:
        with ObjectStoragePath(path).open("rb") as file:  # type: ignore[no-untyped-call]
            return bytes(file.readline(most))
    except FileNotFoundError:
        return b""


def replace_file(path: str, source: Path) -> None:
    """
    Put a local file in the place of another, local or in object storage, such that a reader never sees half of it.

    An object store shows a new object when it is complete; on a local disk the file is renamed into its place.
    """
    target = ObjectStoragePath(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    is_local = target.protocol in ("", "file")
    written = target.parent / f".{target.name}.{uuid.uuid4().hex}" if is_local else target
    with source.open("rb") as file, written.open("wb") as copy:  # type: ignore[no-untyped-call]
        shutil.copyfileobj(file, copy)
    if is_local:
        os.replace(written.path, target.path)


def own_file(path: str, map_index: int | None) -> str:
    """Return the path of a mapped task's own file: in a folder of its own beside the others'."""
    if map_index is None or map_index < 0:
        return path
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}map_index={map_index}/{name}"
