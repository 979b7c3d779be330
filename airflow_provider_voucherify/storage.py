"""The folder of ``report_path``: reports, failures, and what was sent while its outcome is not known."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_voucherify.compat import ObjectStoragePath, open_for_reading
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyError

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.failures import EarlierFailures
    from airflow_provider_voucherify.sync.ledger import Ledger
    from airflow_provider_voucherify.sync.plan import Plan

_BYTES_PER_COPY = 1_048_576
_TABLES = ("_delta_log", "_spark_metadata", ".hoodie")
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")

_BYTES_PER_PART = 8_388_608
"""Of an upload to object storage, which are held in memory."""

_PROBE = ".voucherify-probe"

_LOCAL = ("", "file", "local")
_REFUSALS = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)

_STAGED = "staged-"
_UNTIL = "until.json"

_KEPT_FOR = 7 * 24 * 3600
"""Seconds after a task's end time for which the records that were staged for it are surely left alone."""


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
        """
        Make the folder, if the storage has such a thing, and see whether files can be written to it and removed.

        :raises VoucherifyConfigurationError: they cannot.
        """
        _try_out(self._path, "report_path", must_remove=True)

    def has(self, path: str, name: str) -> bool:
        """Say whether a path, however it is spelled, is the one of the folder's file of that name."""
        return _place(ObjectStoragePath(path)) == _place(self._path / name)

    def write(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file of the folder for writing; see ``replacing``."""
        return _replacing(self._path / name)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None where there is no such file."""
        file = self._path / name
        try:
            return bytes(file.fs.cat_file(file.path))
        except FileNotFoundError:
            return None

    def lines(self, name: str) -> Iterator[bytes]:
        """Give a file's lines, none where there is no such file."""
        with suppress(FileNotFoundError), open_for_reading(str(self._path / name)) as file:
            yield from file

    def fetch(self, name: str, to: IO[bytes]) -> bool:
        """Copy a file of the folder into a local one; False where there is no such file."""
        return fetch(str(self._path / name), to)

    def names(self) -> list[str]:
        """Return the names of what is in it."""
        fs, path = self._path.fs, self._path.path
        fs.invalidate_cache(path)
        try:
            return [PurePosixPath(name).name for name in fs.ls(path, detail=False)]
        except (FileNotFoundError, NotADirectoryError):  # of an object store: nothing has been written to it yet
            return []

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        file = self._path / name
        with suppress(FileNotFoundError):
            file.fs.rm_file(file.path)

    def remove_folder(self, name: str) -> None:
        """Remove a folder, if it is there, with the files in it."""
        folder = StorageReportFolder(str(self._path / name))
        for file in folder.names():
            folder.remove(file)
        left = self._path / name
        with suppress(OSError):  # not every storage has folders that are left then
            left.fs.rmdir(left.path)


class StagedRecords:
    """
    What was sent, kept in the report folder while the task is deferred and has no process to remember it.

    They have the source's data, so they are removed as soon as the outcome is known or the try has failed. Where
    nobody is left to do that (the task is marked or cleared while it is deferred, the trigger fails), the next try
    does it, which finds them by their name. What is older than that, since no try followed or another worker with
    another disk went on, is removed by ``remove_forgotten``.

    :param folder: where; it gets a folder ``staged-…`` with the bodies and the refused rows.
    :param name: of the task instance, see ``staged_name``.
    :param batches: how many bodies there are; needed to read one.
    """

    def __init__(self, folder: StorageReportFolder, name: str, batches: int = 0) -> None:
        self._folder = folder
        self._name = f"{_STAGED}{name}"
        self._refused, self._set_aside, self._failed_before, self._ledger, self._state = (
            f"{self._name}/{file}"
            for file in ("refused.jsonl", "set_aside.jsonl", "failed_before.sqlite", "ledger.sqlite", "state.sqlite")
        )
        self._bodies = [f"{self._name}/{number:05}.json" for number in range(1, batches + 1)]
        self._fetched: EarlierFailures | None = None

    def stage(self, plan: Plan, until: float) -> None:
        """
        Write down everything of a plan.

        :param until: when the task goes on at the latest, Unix epoch seconds.
        """
        with self._folder.write(f"{self._name}/{_UNTIL}") as file:
            file.write(json.dumps({"until": until}).encode())
        for batch in plan.batches:
            with self._folder.write(self._bodies[batch.number - 1]) as file:
                file.writelines(batch.body())
        for name, lines in ((self._refused, plan.refused_lines()), (self._set_aside, plan.set_aside_lines())):
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

        :raises VoucherifyError: it is not; a retry makes it anew.
        """
        if self._folder.read(self._refused) is None:
            raise self._lost()

    @contextmanager
    def ledger(self) -> Iterator[Ledger | None]:
        """Open the sync's ledger again; None where there is none."""
        from airflow_provider_voucherify.sync.ledger import Ledger

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
        from airflow_provider_voucherify.sync.failures import EarlierFailures

        if self._fetched is None:
            with TemporaryFile(prefix="voucherify-") as saved:
                self._fetched = EarlierFailures(saved if self._folder.fetch(self._failed_before, saved) else None)
        return self._fetched

    def body(self, number: int) -> bytes:
        """
        Return the body of the batch with a number.

        :raises VoucherifyError: it was removed from the folder.
        """
        body = self._folder.read(self._bodies[number - 1])
        if body is None:
            raise self._lost()
        return body

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
        """Give the disk space back."""
        if self._fetched is not None:
            self._fetched.close()

    def _lost(self) -> VoucherifyError:
        return VoucherifyError(
            f"what was kept in {self._folder.uri} while the task waited is not there: report_path has to be a folder "
            "that all workers share; a retry reads the source again and waits for what was sent"
        )


def remove_forgotten(folder: StorageReportFolder) -> None:
    """Remove what was staged for tasks that must have ended a week ago."""
    for name in folder.names():
        if name.startswith(_STAGED) and (about := folder.read(f"{name}/{_UNTIL}")) is not None:
            with suppress(ValueError, KeyError, TypeError):
                if json.loads(about)["until"] + _KEPT_FOR < time.time():
                    folder.remove_folder(name)


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


def path_text(parameter: str, path: Any) -> str:
    """
    Return a path, given as text, ``pathlib.Path`` or ``ObjectStoragePath``, as text.

    :raises VoucherifyConfigurationError: it is something else, or pathlib has made something else of a URI.
    """
    text = str(path) if isinstance(path, str | os.PathLike | ObjectStoragePath) else ""
    if not text.strip():
        raise VoucherifyConfigurationError(f"{parameter} must be a path or an object storage URI, not {path!r:.100}")
    if isinstance(path, Path) and _LOST_SLASH.match(text):
        raise VoucherifyConfigurationError(
            f"{parameter}: pathlib.Path takes a slash out of the URI {text!r}; give it as text or as ObjectStoragePath"
        )
    return text


def given_paths(path: Any) -> list[str]:
    """
    Return what is given as ``path=``, one path or a list of them, as text.

    :raises VoucherifyConfigurationError: it is something else, empty, or has a path twice.
    """
    paths = [path_text("path", one) for one in (path if isinstance(path, list | tuple) else [path])]
    if not paths:
        raise VoucherifyConfigurationError("path is an empty list: there is nothing to read")
    _check_distinct(paths)
    return paths


def source_files(path: Any) -> list[str]:
    """
    Return the files of ``path=`` in the order in which they are read.

    A path may be a folder, which stands for the files in it by name, without those that begin with ``_`` or a dot, or a
    pattern with ``*``.

    :param path: a path, or a list of them, local or in object storage.
    :raises VoucherifyConfigurationError: the folder has other folders in it, or is a table of Delta Lake or the like.
    :raises OSError: there is no such file, or the folder is still being written.
    """
    files = [file for one in given_paths(path) for file in _files(one)]
    _check_distinct(files)
    return files


def _check_distinct(paths: Sequence[str]) -> None:
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise VoucherifyConfigurationError(f"path has {', '.join(twice[:3])} more than once")


def _files(path: str) -> list[str]:
    target = ObjectStoragePath(path)
    if "*" in path:
        return _matching(path)
    if target.is_dir() if target.protocol in _LOCAL else target.fs.info(target.path)["type"] == "directory":
        return _files_in(path)
    return [path]


def _matching(pattern: str) -> list[str]:
    """Return the files that match a pattern, under URIs as the pattern's own."""
    base = pattern.partition("*")[0].rpartition("/")[0]
    target = ObjectStoragePath(f"{base}/" if base or pattern.startswith("/") else ".")
    target.fs.invalidate_cache()
    root = target.fs._strip_protocol(target.path).rstrip("/")
    found = target.fs.glob(f"{root}/{pattern[len(base) :].lstrip('/')}", detail=True)
    names = sorted(name for name, told in found.items() if told["type"] != "directory" and _is_data(name))
    if not names:
        raise FileNotFoundError(f"no file matches {pattern}")
    prefix = f"{base}/" if base or pattern.startswith("/") else ""
    return [f"{prefix}{name.removeprefix(root).lstrip('/')}" for name in names]


def _files_in(folder: str) -> list[str]:
    target = ObjectStoragePath(folder)
    target.fs.invalidate_cache()
    entries = {entry["name"].rstrip("/"): entry["type"] for entry in target.fs.ls(target.path, detail=True)}
    entries.pop(target.fs._strip_protocol(target.path).rstrip("/"), None)
    names = {PurePosixPath(name).name: kind for name, kind in entries.items()}
    if table := [name for name in _TABLES if name in names]:
        raise VoucherifyConfigurationError(
            f"{folder} is a table ({table[0]}), whose files have rows that are not in it any more: export it, or "
            "read it by a query"
        )
    if "_temporary" in names and "_SUCCESS" not in names:
        raise OSError(f"{folder} is still being written: it has _temporary and no _SUCCESS")
    data = {name: kind for name, kind in names.items() if _is_data(name)}
    if folders := sorted(name for name, kind in data.items() if kind == "directory"):
        raise VoucherifyConfigurationError(
            f"{folder} has folders in it ({', '.join(folders[:3])}), which are not read; a pattern such as "
            f"{folder.rstrip('/')}/*/* reads their files, but not a column that is only in a folder's name"
        )
    if not data:
        raise FileNotFoundError(f"there are no files in the folder {folder}")
    return [f"{folder.rstrip('/')}/{name}" for name in sorted(data)]


def _is_data(path: str) -> bool:
    """Say whether a file is not one of those that Spark and Hadoop leave beside the data."""
    name = PurePosixPath(path).name
    return not name.startswith(("_", ".")) and not name.endswith("_$folder$")


def open_source(path: str) -> IO[bytes]:
    """
    Open a file of ``path=`` for reading: a local path or an object storage URI.

    A ``.parquet`` file of an object store is first copied to an unnamed file on local disk: it is read column by
    column in small pieces, which would fetch most of it several times.
    """
    source = ObjectStoragePath(path)
    file = open_for_reading(path)
    if source.protocol in _LOCAL or PurePosixPath(path.partition("?")[0]).suffix.lower() != ".parquet":
        return file
    with ExitStack() as undo, file:
        copy = undo.enter_context(TemporaryFile(prefix="voucherify-"))
        shutil.copyfileobj(file, copy, _BYTES_PER_COPY)
        copy.seek(0)
        undo.pop_all()
    return copy


def fetch(path: str, to: IO[bytes]) -> bool:
    """
    Copy a file, local or in object storage, into a local one, to be read from its beginning; False if there is none.

    :raises OSError: it cannot be found out whether there is one, or what is in it.
    """
    source = ObjectStoragePath(path)
    source.fs.invalidate_cache(source.path)
    # asking whether it exists would take an object store that is out of order for an empty one
    with suppress(FileNotFoundError), source.open("rb") as file:  # type: ignore[no-untyped-call]
        shutil.copyfileobj(file, to, _BYTES_PER_COPY)
        to.seek(0)
        return True
    return False


def first_line(path: str, most: int = 10_000) -> bytes:
    """Return the first line of a file, local or in object storage; nothing where there is no such file."""
    source = ObjectStoragePath(path)
    source.fs.invalidate_cache(source.path)
    with suppress(FileNotFoundError), source.open("rb", block_size=most) as file:  # type: ignore[no-untyped-call]
        return bytes(file.read(most).partition(b"\n")[0])
    return b""


def _place(target: ObjectStoragePath) -> tuple[str, str]:
    """Return what is the same for two spellings of a place; connections are not told apart."""
    if target.protocol in _LOCAL:
        return "", os.path.realpath(target.path)
    return str(target.fs.protocol), str(target.fs._strip_protocol(target.path))


def replacing(path: str) -> AbstractContextManager[IO[bytes]]:
    """
    Open a file, local or in object storage, for writing, such that nobody ever sees half of it.

    It takes the place of the old one when the block is left. If that is by an error, the old one stays. On a file
    system that writes in place (``hdfs://``, ``sftp://``) neither is so.
    """
    return _replacing(ObjectStoragePath(path))


def check_writable(path: str, parameter: str) -> None:
    """
    See whether a file can be written to a folder, by writing another one beside it and removing that.

    :param parameter: which names the file.
    :raises VoucherifyConfigurationError: it cannot.
    """
    _try_out(ObjectStoragePath(path).parent, parameter, must_remove=False)


def _try_out(folder: ObjectStoragePath, parameter: str, *, must_remove: bool) -> None:
    """Write a file to a folder and remove it; who may write need not have the right to remove, unless it is needed."""
    probe = folder / _PROBE
    tolerated = (FileNotFoundError,) if must_remove else (FileNotFoundError, PermissionError)
    try:
        with _replacing(probe) as file:
            file.write(b"This file checks whether files can be written here. It can be deleted.\n")
        with suppress(*tolerated):  # another task may have removed it
            probe.fs.rm_file(probe.path)
    except OSError as error:
        if isinstance(error, _REFUSALS) or error.errno in (errno.EROFS, errno.EINVAL):
            raise VoucherifyConfigurationError(f"{parameter} {str(folder)!r} cannot be written to: {error}") from error
        raise


@contextmanager
def _replacing(target: ObjectStoragePath) -> Iterator[IO[bytes]]:
    if target.protocol in _LOCAL:
        with _replacing_local(Path(os.path.realpath(target.path))) as file:
            yield file
        return
    upload: Any = target.fs.open(target.path, "wb", block_size=_BYTES_PER_PART)
    try:
        yield upload
        upload.close()
    except BaseException:
        with suppress(Exception):  # of a file system that writes in place it cannot be set
            upload.closed = True  # closing an upload completes it, and so does the garbage collector
        with suppress(Exception):
            upload.discard()
        raise


@contextmanager
def _replacing_local(target: Path) -> Iterator[IO[bytes]]:
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    unnamed = _open_unnamed(target.parent)
    try:
        with unnamed or new.open("xb") as file:
            yield file
            if unnamed is not None:
                file.flush()
                descriptor = file.fileno()  # given for a folder, lest Python call link(), which does not follow links
                os.link(f"/proc/self/fd/{descriptor}", new, src_dir_fd=descriptor)
        os.replace(new, target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _open_unnamed(folder: Path) -> IO[bytes] | None:
    """Open a file without a name, which vanishes with the process; None if there is no such thing (on NFS)."""
    try:
        return open(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
    except (OSError, AttributeError):
        return None


def own_file(path: str, map_index: int | None, sync_name: str | None = None) -> str:
    """
    Return the path of a mapped task's own file: in a folder of its own beside the others'.

    :param sync_name: names the folder, if the instance has one of its own: its map index may be another tomorrow.
    """
    if map_index is None or map_index < 0:
        return path
    folder, slash, name = path.rpartition("/")
    own = f"map_index={map_index}" if sync_name is None else f"sync_name={quote(sync_name, safe='')}"
    return f"{folder}{slash}{own}/{name}"
