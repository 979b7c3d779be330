"""
Checked records on disk, between reading the source and sending.

Reading everything before the first request lets a duplicate id be sent once (the last row wins), releases the
warehouse before the waiting for rate limits begins, and lets a batch be sent again without reading twice. The files
have no name, so nothing is left behind when the process is killed, and memory does not grow with the rows.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self

_ENTRIES_PER_READ = 65_536
_BYTES_PER_READ = 262_144
_MAX_PARTITIONS = 256


@dataclass(frozen=True, slots=True)
class BodyForm:
    """
    What stands around the comma-separated items of a body.

    :param prefix: bytes before the first item.
    :param suffix: bytes after the last item.
    """

    prefix: bytes
    suffix: bytes

    @property
    def overhead(self) -> int:
        """Bytes of a body without its items."""
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True, slots=True)
class Batch:
    """
    One request's worth of records.

    :param number: counts from 1.
    :param records: how many.
    :param length: bytes of the body.
    :param ranges: where the items are in the spool: (offset, bytes), each item followed by a comma.
    """

    number: int
    records: int
    length: int
    ranges: tuple[tuple[int, int], ...]


class Spool:
    """Encoded items in order, each with the hash of its record's id. A context manager; closing it frees the disk."""

    def __init__(self) -> None:
        self._items = _file()
        self._lengths = _file()
        self._hashes = _file()
        self.count = 0
        self.superseded: array[int] = array("Q")

    def add(self, items: Sequence[bytes], ids: Sequence[str]) -> None:
        """Append encoded items and the ids of their records."""
        self._items.write(b",".join(items) + b"," if items else b"")
        array("I", [len(item) + 1 for item in items]).tofile(self._lengths)
        array("q", map(hash, ids)).tofile(self._hashes)
        self.count += len(items)

    def find_superseded(self, id_of: Callable[[bytes], str]) -> int:
        """
        Find the items whose id comes again later; they will not be sent. Returns how many.

        Memory grows with the number of ids that come more than once, not with the number of items.

        :param id_of: reads the id of an encoded item.
        """
        twice = self._hashes_seen_twice()
        last: dict[str, int] = {}
        superseded: list[int] = []
        if twice:
            offset = 0
            pairs = zip(self._entries(self._hashes, "q"), self._entries(self._lengths, "I"), strict=True)
            for index, (hashed, length) in enumerate(pairs):
                if hashed in twice:
                    record_id = id_of(self._read(offset, length - 1))
                    if record_id in last:
                        superseded.append(last[record_id])
                    last[record_id] = index
                offset += length
        self.superseded = array("Q", sorted(superseded))
        return len(superseded)

    def batches(self, form: BodyForm, max_bytes: int, max_records: int | None) -> Iterator[Batch]:
        """
        Cut the items that are not superseded into batches, in order, each as full as the limits allow.

        :param form: what each body has around its items.
        :param max_bytes: largest body; every single item must fit (``item + form.overhead``).
        :param max_records: most items in one batch, None for as many as fit.
        """
        room = max_bytes - form.overhead + 1
        number = records = size = 0
        ranges: list[tuple[int, int]] = []
        for offset, length in self._sendable():
            if records and (size + length > room or records == max_records):
                number += 1
                yield Batch(number, records, form.overhead + size - 1, tuple(ranges))
                records, size, ranges = 0, 0, []
            if ranges and sum(ranges[-1]) == offset:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
            else:
                ranges.append((offset, length))
            records += 1
            size += length
        if records:
            yield Batch(number + 1, records, form.overhead + size - 1, tuple(ranges))

    def subset(
        self, batch: Batch, number: int, form: BodyForm, ids: Container[str], id_of: Callable[[bytes], str]
    ) -> Batch:
        """
        Make a batch of some of the items of another.

        :param number: of the new batch.
        :param ids: of the items to take; at least one of the batch has to be among them.
        :param id_of: reads the id of an encoded item.
        """
        taken: list[tuple[int, int]] = []
        for start, size in batch.ranges:
            taken += [
                (offset, length)
                for offset, length in self._sendable()
                if start <= offset < start + size and id_of(self._read(offset, length - 1)) in ids
            ]
        length = form.overhead + sum(length for _, length in taken) - 1
        return Batch(number, len(taken), length, tuple(taken))

    def body(self, batch: Batch, form: BodyForm) -> Iterator[bytes]:
        """Give a batch's body piece by piece; can be called again, and from another thread."""
        yield form.prefix
        for index, (offset, length) in enumerate(batch.ranges, start=1):
            end = offset + length - (index == len(batch.ranges))
            while offset < end:
                piece = self._read(offset, min(_BYTES_PER_READ, end - offset))
                offset += len(piece)
                yield piece
        yield form.suffix

    def close(self) -> None:
        """Give the disk space back."""
        for file in (self._items, self._lengths, self._hashes):
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, offset: int, length: int) -> bytes:
        self._items.flush()
        return os.pread(self._items.fileno(), length, offset)

    def _sendable(self) -> Iterator[tuple[int, int]]:
        skipped = iter(self.superseded)
        skip = next(skipped, None)
        offset = 0
        for index, length in enumerate(self._entries(self._lengths, "I")):
            if index == skip:
                skip = next(skipped, None)
            else:
                yield offset, length
            offset += length

    def _entries(self, file: IO[bytes], code: str) -> Iterator[int]:
        for block in _blocks(file, code):
            yield from block

    def _hashes_seen_twice(self) -> set[int]:
        partitions = min(_MAX_PARTITIONS, self.count // _ENTRIES_PER_READ + 1)
        if partitions == 1:
            return {hashed for block in _blocks(self._hashes, "q") for hashed in _repeated(block)}
        twice: set[int] = set()
        files: list[IO[bytes]] = [_file() for _ in range(partitions)]
        try:
            for block in _blocks(self._hashes, "q"):
                parts: list[array[int]] = [array("q") for _ in range(partitions)]
                for hashed in block:
                    parts[hashed % partitions].append(hashed)
                for part, file in zip(parts, files, strict=True):
                    part.tofile(file)
            for file in files:
                part = array("q")
                for block in _blocks(file, "q"):
                    part += block
                twice |= _repeated(part)
        finally:
            for file in files:
                file.close()
        return twice


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="voucherify-")


def _blocks(file: IO[bytes], code: str) -> Iterator[array[int]]:
    file.flush()
    size = os.fstat(file.fileno()).st_size
    bytes_per_block = _ENTRIES_PER_READ * array(code).itemsize
    for offset in range(0, size, bytes_per_block):
        block: array[Any] = array(code)
        block.frombytes(os.pread(file.fileno(), bytes_per_block, offset))
        yield block


def _repeated(hashes: array[int]) -> set[int]:
    seen: set[int] = set(hashes)
    if len(seen) == len(hashes):
        return set()
    repeated: set[int] = set()
    for hashed in hashes:
        if hashed in seen:
            seen.remove(hashed)
        else:
            repeated.add(hashed)
    return repeated
