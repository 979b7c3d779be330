"""Hashes of ids on disk: finds the ids that may come twice, in memory that does not grow with their number."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from airflow_provider_voucherify.sync.batches.growing_file import GrowingFile

_HASHES_PER_READ = 65_536
_MAX_PARTITIONS = 256
_BYTES_PER_HASH = array("q").itemsize


class IdHashes:
    """The hashes of ids, in order."""

    def __init__(self) -> None:
        self._file = GrowingFile()

    def add(self, ids: Iterable[str]) -> None:
        """Append the hashes of ids."""
        self._file.add(array("q", map(hash, ids)))

    def read(self, first: int, number: int) -> array[int]:
        """Read some of the hashes, from the given one on."""
        return _read(self._file, first, number)

    def seen_twice(self) -> set[int]:
        """Return the hashes that come more than once."""
        count = self._file.size // _BYTES_PER_HASH
        partitions = min(_MAX_PARTITIONS, count // _HASHES_PER_READ + 1)
        if partitions == 1:
            return _repeated(self.read(0, count))
        twice: set[int] = set()
        files = [GrowingFile() for _ in range(partitions)]
        try:
            for start in range(0, count, _HASHES_PER_READ):
                parts: list[list[int]] = [[] for _ in range(partitions)]
                for hashed in self.read(start, _HASHES_PER_READ):
                    parts[hashed % partitions].append(hashed)
                for part, file in zip(parts, files, strict=True):
                    file.add(array("q", part))
            for file in files:
                twice |= _repeated(_read(file, 0, count))
        finally:
            for file in files:
                file.close()
        return twice

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()


def _read(file: GrowingFile, first: int, number: int) -> array[int]:
    """Read at most ``number`` hashes of a file, from the one with index ``first``."""
    return array("q", file.read(first * _BYTES_PER_HASH, number * _BYTES_PER_HASH))


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
