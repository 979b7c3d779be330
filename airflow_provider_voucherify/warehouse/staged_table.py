"""Files in a table, for a task whose only place that all workers share is a database."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.queries import query

BYTES_PER_PIECE = 3_000
"""Of a file in one row: 4,000 characters, which is what a ``varchar`` of every database takes."""

_BYTES_PER_READ = 65_536


class StagedTable:
    """
    Folders of files in the table ``{table}_staged`` of a database, which is created if it is absent.

    A file is compressed, cut into pieces, and written in one transaction, so it is there whole or not at all. Base64 in
    a ``varchar`` is larger than a binary column would be, and is the same in every database.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: what the table's name begins with, optionally after a schema and a dot.
    """

    def __init__(self, conn_id: str, table: str) -> None:
        self._database = Database(conn_id)
        self._name = table
        self._table = f"{table}_staged"

    @property
    def uri(self) -> str:
        """Where it is, for messages."""
        return f"the table {self._table} of {self._database.conn_id}"

    def prepare(self) -> None:
        """Create the table, if it is absent."""
        from airflow_provider_voucherify.warehouse import schema

        schema.create(self._database, [schema.staged(self._name)], self._name)

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for writing; it is there whole or not at all."""
        with TemporaryFile(prefix="voucherify-") as file:
            yield file
            self._database.retrying("what a deferred task keeps")(self._insert, name, file)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if there is no such file."""
        with TemporaryFile(prefix="voucherify-") as file:
            return file.read() if self.fetch(name, file) else None

    def lines(self, name: str) -> Iterator[bytes]:
        """Give a file's lines, none if there is no such file."""
        with TemporaryFile(prefix="voucherify-") as file:
            if self.fetch(name, file):
                yield from file

    def fetch(self, name: str, to: IO[bytes]) -> bool:
        """Copy a file into a local one, to be read from its beginning; False if there is no such file."""
        unpacking = zlib.decompressobj()
        exists = False
        where = f"where folder = {self._database.mark} and file_name = {self._database.mark} order by piece"
        for (content,) in self._select(f"content from {self._table} {where}", *_place(name)):
            exists = True
            to.write(unpacking.decompress(base64.b64decode(content)))
        to.write(unpacking.flush())
        to.seek(0)
        return exists

    def read_each(self, prefix: str, name: str) -> Iterator[tuple[str, bytes]]:
        """Give the folders whose names begin so, and what is in their file of that name; it fits one piece."""
        for folder, content in self._select(
            f"folder, content from {self._table} where file_name = {self._database.mark}", name
        ):
            if folder.startswith(prefix):
                yield folder, zlib.decompress(base64.b64decode(content))

    def remove_folder(self, name: str) -> None:
        """Remove a folder, if it is there, with the files in it."""
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            if self._database.exists(connection, self._table):
                cursor.execute(f"delete from {self._table} where folder = {self._database.mark}", [name])  # noqa: S608
                connection.commit()

    def _select(self, what: str, *values: str) -> Iterator[Sequence[Any]]:
        """Give rows of the table, none if it is absent; they are streamed, since they may be large."""
        with closing(self._database.transaction()) as connection:
            if not self._database.exists(connection, self._table):
                return
        with query(self._database.conn_id, f"select {what}", values) as chunks:
            for chunk in chunks:
                yield from chunk.rows if isinstance(chunk, Chunk) else ()

    def _insert(self, name: str, file: IO[bytes]) -> None:
        folder, file_name = _place(name)
        where = f"where folder = {self._database.mark} and file_name = {self._database.mark}"
        file.seek(0)
        rows = ((folder, file_name, number, content) for number, content in enumerate(_pieces(file)))
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(f"select 1 from {self._table} {where}", [folder, file_name])  # noqa: S608
            if cursor.fetchall():  # else MySQL would lock the gap, and two that write at once each other
                cursor.execute(f"delete from {self._table} {where}", [folder, file_name])  # noqa: S608
            self._database.insert(cursor, self._table, ("folder", "file_name", "piece", "content"), rows)
            connection.commit()


def _place(name: str) -> tuple[str, str]:
    folder, _, file_name = name.partition("/")
    return folder, file_name


def _pieces(file: IO[bytes]) -> Iterator[str]:
    """Give a file's content packed, in pieces; an empty one has one, too, since some databases take '' for null."""
    packing, packed = zlib.compressobj(1), b""
    while block := file.read(_BYTES_PER_READ):
        packed += packing.compress(block)
        while len(packed) >= BYTES_PER_PIECE:
            yield base64.b64encode(packed[:BYTES_PER_PIECE]).decode()
            packed = packed[BYTES_PER_PIECE:]
    packed += packing.flush()
    for start in range(0, len(packed), BYTES_PER_PIECE):
        yield base64.b64encode(packed[start : start + BYTES_PER_PIECE]).decode()
