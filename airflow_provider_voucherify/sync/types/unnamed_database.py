"""SQLite files without a name: they vanish with the process that has them, however it ends."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

_BYTES_PER_COPY = 1_048_576


class UnnamedDatabase:
    """
    An SQLite database in a temporary file, whose name is removed once SQLite has opened it.

    No other process uses it, so it needs no journal, which SQLite could not keep for a file without a name.

    :param content: what another one's ``copy`` gave; None for an empty database.
    :ivar db: the connection. It autocommits unless a transaction has been begun.
    """

    def __init__(self, content: IO[bytes] | None = None) -> None:
        self._files: dict[str, FileIO] = {}
        with _named_file() as (path, file):
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._adopt("main", file, content)

    def attach(self, name: str, content: IO[bytes] | None = None) -> None:
        """
        Attach a second database under a name, replacing the one that had it. No transaction may be open.

        :raises sqlite3.DatabaseError: the content is not a database; the name has to be attached anew then.
        """
        if name in self._files:
            self.db.execute(f"detach {name}")
            self._files.pop(name).close()
        with _named_file() as (path, file):
            self.db.execute(f"attach ? as {name}", (str(path),))
        self._adopt(name, file, content)

    def copy(self, name: str, to: IO[bytes]) -> None:
        """Write a database's content into a file. No transaction may be open."""
        shutil.copyfileobj(self.content(name), to, _BYTES_PER_COPY)

    def content(self, name: str) -> FileIO:
        """Return a database's content to be read from its beginning. No transaction may be open."""
        file = self._files[name]
        file.seek(0)
        return file

    def close(self) -> None:
        """Free the disk space."""
        self.db.close()
        for file in self._files.values():
            file.close()

    def _adopt(self, name: str, file: FileIO, content: IO[bytes] | None) -> None:
        self._files[name] = file
        if content is not None:
            with open(file.fileno(), "wb", closefd=False) as buffered:
                shutil.copyfileobj(content, buffered, _BYTES_PER_COPY)
        self.db.execute(f"pragma {name}.journal_mode = off")
        self.db.execute(f"pragma {name}.synchronous = off")


@contextmanager
def _named_file() -> Iterator[tuple[Path, FileIO]]:
    """Make an empty file whose name is gone afterwards."""
    with TemporaryDirectory(prefix="voucherify-") as folder:
        path = Path(folder, "database")
        yield path, path.open("w+b", buffering=0)
