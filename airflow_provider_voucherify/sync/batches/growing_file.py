"""Bytes on disk that are only ever added to, in files without a name: they vanish with the process that has them."""

from __future__ import annotations

import os
import tempfile
from array import array


class GrowingFile:
    """
    A temporary file.

    :ivar size: in bytes.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115
        self.size = 0

    def add(self, data: bytes | array[int]) -> tuple[int, int]:
        """Append some bytes; return where they are: offset and length."""
        place = self.size, self._file.write(data)
        self.size += place[1]
        return place

    def read(self, offset: int, length: int) -> bytes:
        """Read what there is of a range; safe to call from several threads."""
        self._file.flush()
        return os.pread(self._file.fileno(), min(length, self.size - offset), offset)

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()
