"""The folder of ``report_path``: reports, failures, and what was sent while its outcome is not known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import PurePosixPath
from typing import IO

from airflow_provider_voucherify.compat import ObjectStoragePath, open_for_reading
from airflow_provider_voucherify.storage.files import fetch, replacing_at, try_out
from airflow_provider_voucherify.storage.paths import place_of


class StorageReportFolder:
    """
    A folder in object storage or on a local disk.

    :param path: URI or local path, e.g. ``s3://conn_id@bucket/voucherify`` or ``/var/reports``.
    """

    def __init__(self, path: str, parameter: str = "report_path") -> None:
        self._path = ObjectStoragePath(path)
        self._parameter = parameter

    @property
    def uri(self) -> str:
        """Where the folder is, as it was given."""
        return str(self._path)

    def prepare(self) -> None:
        """
        Make the folder, if the storage has such a thing, and see whether files can be written to it and removed.

        :raises VoucherifyConfigurationError: they cannot.
        """
        try_out(self._path, self._parameter, must_remove=True)

    def has(self, path: str, name: str) -> bool:
        """Say whether a path, however it is spelled, is the one of the folder's file of that name."""
        return place_of(ObjectStoragePath(path)) == place_of(self._path / name)

    def write(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file of the folder for writing; see ``replacing``."""
        return replacing_at(self._path / name)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if there is no such file."""
        file = self._path / name
        try:
            return bytes(file.fs.cat_file(file.path))
        except FileNotFoundError:
            return None

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield a file's lines, none if there is no such file."""
        with suppress(FileNotFoundError), open_for_reading(str(self._path / name)) as file:
            yield from file

    def fetch(self, name: str, to: IO[bytes]) -> bool:
        """Copy a file of the folder into a local one; False if there is no such file."""
        return fetch(str(self._path / name), to)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what is in it, or in a folder of it."""
        place = self._path / folder if folder else self._path
        fs, path = place.fs, place.path
        fs.invalidate_cache(path)
        try:
            return [PurePosixPath(name).name for name in fs.ls(path, detail=False)]
        except (FileNotFoundError, NotADirectoryError):  # of an object store: nothing has been written to it yet
            return []

    def read_each(self, prefix: str, name: str) -> Iterator[tuple[str, bytes]]:
        """Yield the folders whose names begin so, and what is in their file of that name."""
        for folder in self.names():
            if folder.startswith(prefix) and (content := self.read(f"{folder}/{name}")) is not None:
                yield folder, content

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
        path = self._path / name
        with suppress(OSError):  # not every storage has folders that are left then
            path.fs.rmdir(path.path)
