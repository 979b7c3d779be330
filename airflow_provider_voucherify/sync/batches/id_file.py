"""Ids on disk beside the items that they are of, for those who need no more of the items than that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import msgspec

_encode = msgspec.json.Encoder().encode_lines
_decode = msgspec.json.Decoder(str).decode_lines


class IdFile:
    """
    Ids in order.

    :ivar size: in bytes.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115
        self.size = 0

    def add(self, ids: Sequence[str]) -> int:
        """Append ids; return how many bytes they take."""
        length = self._file.write(_encode(ids))
        self.size += length
        return length

    def read(self, offset: int, length: int) -> list[str]:
        """Read the ids in a range of bytes."""
        self._file.flush()
        return _decode(os.pread(self._file.fileno(), length, offset))

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()
