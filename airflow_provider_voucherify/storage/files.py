"""Files, local or in object storage: read whole or by blocks, and never seen half-written."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any

from airflow_provider_voucherify.compat import ObjectStoragePath, open_for_reading
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.storage.paths import LOCAL

_BYTES_PER_COPY = 1_048_576


_BYTES_PER_PART = 8_388_608
"""Of an upload to object storage, which are held in memory."""


_PROBE = ".voucherify-probe"


_REFUSALS = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def open_source(path: str) -> IO[bytes]:
    """
    Open a file of ``path=`` for reading: a local path or an object storage URI.

    A ``.parquet`` file of an object store is first copied to an unnamed file on local disk: it is read column by
    column in small pieces, which would fetch most of it several times.
    """
    source = ObjectStoragePath(path)
    file = open_for_reading(path)
    if source.protocol in LOCAL or PurePosixPath(path.partition("?")[0]).suffix.lower() != ".parquet":
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


def first_line(path: str, max_bytes: int = 10_000) -> bytes:
    """Return the first line of a file, local or in object storage; nothing if there is no such file."""
    source = ObjectStoragePath(path)
    source.fs.invalidate_cache(source.path)
    with suppress(FileNotFoundError), source.open("rb", block_size=max_bytes) as file:  # type: ignore[no-untyped-call]
        return bytes(file.read(max_bytes).partition(b"\n")[0])
    return b""


def replacing(path: str) -> AbstractContextManager[IO[bytes]]:
    """
    Open a file, local or in object storage, for writing, so that it is never seen half-written.

    It takes the place of the old one when the block is left. If that is by an error, the old one stays. On a file
    system that writes in place (``hdfs://``, ``sftp://``) neither is so.
    """
    return replacing_at(ObjectStoragePath(path))


def check_writable(path: str, parameter: str) -> None:
    """
    See whether a file can be written to a folder, by writing another one beside it and removing that.

    :param parameter: which names the file.
    :raises VoucherifyConfigurationError: it cannot.
    """
    try_out(ObjectStoragePath(path).parent, parameter, must_remove=False)


def try_out(folder: ObjectStoragePath, parameter: str, *, must_remove: bool) -> None:
    """Write a file to a folder and remove it; who may write need not have the right to remove, unless it is needed."""
    probe = folder / _PROBE
    tolerated = (FileNotFoundError,) if must_remove else (FileNotFoundError, PermissionError)
    try:
        with replacing_at(probe) as file:
            file.write(b"This file checks whether files can be written here. It can be deleted.\n")
        with suppress(*tolerated):  # another task may have removed it
            probe.fs.rm_file(probe.path)
    except OSError as error:
        if isinstance(error, _REFUSALS) or error.errno in (errno.EROFS, errno.EINVAL):
            raise VoucherifyConfigurationError(f"{parameter} {str(folder)!r} cannot be written to: {error}") from error
        raise


@contextmanager
def replacing_at(target: ObjectStoragePath) -> Iterator[IO[bytes]]:
    """Do what ``replacing`` says."""
    if target.protocol in LOCAL:
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
                descriptor = file.fileno()  # so that Python does not call link(), which does not follow links
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
