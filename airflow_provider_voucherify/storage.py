"""The folder of ``report_path``: reports, failures, and what was sent while its outcome is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, Any

from airflow_provider_voucherify.compat import ObjectStoragePath
from airflow_provider_voucherify.sync.plan import Plan


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

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        file = self._path / name
        if file.exists():
            file.unlink()

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder, where the storage has such a thing."""
        with suppress(OSError):
            (self._path / name).rmdir()


class StagedRecords:
    """
    What was sent, kept in the report folder while the task is deferred and has no process to remember it.

    :param folder: where; it gets a folder ``staged-…`` with the bodies and the refused rows.
    :param name: tells the task's staged files from those of others that write to the same folder.
    :param batches: how many bodies there are.
    """

    def __init__(self, folder: StorageReportFolder, name: str, batches: int) -> None:
        self._folder = folder
        self._refused = f"staged-{name}/refused.jsonl"
        self._bodies = [f"staged-{name}/{number:05}.json" for number in range(1, batches + 1)]
        self._name = f"staged-{name}"

    def stage(self, plan: Plan) -> None:
        """Write down everything of a plan."""
        for batch in plan.batches:
            with self._folder.write(self._bodies[batch.number - 1]) as file:
                file.writelines(plan.body(batch))
        with self._folder.write(self._refused) as file:
            file.writelines(plan.refused_lines())

    def body(self, number: int) -> bytes | None:
        """Return the body of the batch with a number, or None where it was removed from the folder."""
        return self._folder.read(self._bodies[number - 1])

    def refused_lines(self) -> Iterable[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""
        return (self._folder.read(self._refused) or b"").splitlines(keepends=True)

    def remove(self) -> None:
        """Remove what was staged."""
        for name in (*self._bodies, self._refused):
            self._folder.remove(name)
        self._folder.remove_folder(self._name)


class PlannedRecords:
    """What was sent, straight from the plan that is still open."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def body(self, number: int) -> bytes:
        """Return the body of the batch with a number."""
        return b"".join(self._plan.body(self._plan.batches[number - 1]))

    def refused_lines(self) -> Iterator[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""
        return self._plan.refused_lines()


def open_source(path: str) -> Any:
    """Open the file of ``path=`` for reading: a local path or an object storage URI."""
    return ObjectStoragePath(path).open("rb")  # type: ignore[no-untyped-call]
