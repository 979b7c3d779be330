"""Hashes of ids on disk: finds the ids that may come twice, in memory that does not grow with their number."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable
from typing import IO

_HASHES_PER_READ = 65_536
_MAX_PARTITIONS = 256


class IdHashes:
    """The hashes of ids, in order."""

    def __init__(self) -> None:
        self._file = _file()
        self._count = 0

    def add(self, ids: Iterable[str]) -> None:
        """Append the hashes of ids."""
        hashes = array("q", map(hash, ids))
        hashes.tofile(self._file)
        self._count += len(hashes)

    def read(self, first: int, number: int) -> array[int]:
        """Read some of the hashes, from the given one on."""
        return _read(self._file, first, number)

    def seen_twice(self) -> set[int]:
        """Return the hashes that come more than once."""
        partitions = min(_MAX_PARTITIONS, self._count // _HASHES_PER_READ + 1)
        if partitions == 1:
            return _repeated(self.read(0, self._count))
        twice: set[int] = set()
        files: list[IO[bytes]] = [_file() for _ in range(partitions)]
        try:
            for start in range(0, self._count, _HASHES_PER_READ):
                parts: list[list[int]] = [[] for _ in range(partitions)]
                for hashed in self.read(start, _HASHES_PER_READ):
                    parts[hashed % partitions].append(hashed)
                for part, file in zip(parts, files, strict=True):
                    array("q", part).tofile(file)
            for file in files:
                twice |= _repeated(_read(file, 0, self._count))
        finally:
            for file in files:
                file.close()
        return twice

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="voucherify-")


def _read(file: IO[bytes], first: int, number: int) -> array[int]:
    """Read at most ``number`` 64-bit numbers of a file, from the one with index ``first``."""
    file.flush()
    numbers: array[int] = array("q")
    size = os.fstat(file.fileno()).st_size
    length = min(number * numbers.itemsize, size - first * numbers.itemsize)
    numbers.frombytes(os.pread(file.fileno(), length, first * numbers.itemsize))
    return numbers


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
