"""Files of text on their way to a reader: unpacked, decoded, and with lines of bounded length."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError

MAX_LINE_BYTES = 67_108_864
"""A file with a longer line is refused: it would have to fit into memory, and would not fit into a request."""

_BYTES_PER_READ = 65_536
_BEGINNINGS = {
    b"\x1f\x8b": "packed with gzip: its name must end in .gz",
    b"PK\x03\x04": "a ZIP or Excel file: save it as CSV in UTF-8",
    b"\xff\xfe": "in UTF-16: save it as UTF-8",
    b"\xfe\xff": "in UTF-16: save it as UTF-8",
    b"PAR1": "a Parquet file: its name must end in .parquet",
}


def ending_of(name: str) -> tuple[str, bool]:
    """Return the ending of a file's name or URI, in lower case and without ``.gz``, and whether it had that."""
    path = PurePosixPath(name.partition("?")[0].lower())
    is_packed = path.suffix == ".gz"
    return (PurePosixPath(path.stem) if is_packed else path).suffix, is_packed


@contextmanager
def unpacked(file: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    """
    Yield a file as text: itself, or what is in it if its name ends in ``.gz``. It is not closed.

    :raises VoucherifyConfigurationError: the gzipped file is damaged or incomplete (also while it is read), or the file
        is of another kind.
    """
    _, is_packed = ending_of(name)
    if not is_packed:
        yield _text(file, name)
        return
    raw = _Unpacked(file, name)
    with io.BufferedReader(raw, _BYTES_PER_READ) as reader:
        yield _text(reader, name)


def decoded(file: IO[bytes], name: str) -> Generator[str, None, None]:
    """
    Yield the lines of UTF-8 text with their line ends, of any system; a byte order mark is left out.

    :raises VoucherifyConfigurationError: naming the line that is not UTF-8, or too long.
    """
    counted = _Counted(file, name)
    text = io.TextIOWrapper(counted, encoding="utf-8-sig", newline="")  # type: ignore[type-var]
    try:
        for line in text:  # noqa: UP028
            yield line
    except UnicodeDecodeError as error:
        number = counted.lines + error.object[: error.start].count(b"\n") + 1
        raise not_utf8(name, number, error.object[error.start : error.start + 1]) from None
    finally:
        text.detach()


def not_utf8(name: str, line: int, byte: bytes) -> VoucherifyConfigurationError:
    """Return the error for a byte that is not UTF-8."""
    return VoucherifyConfigurationError(f"line {line:,} of {name} is not UTF-8 (byte 0x{byte.hex()})")


def some_lines(file: IO[bytes], name: str, rows: int, size: int) -> Iterator[list[bytes]]:
    """
    Yield the lines of a file, some at a time.

    :param rows: maximum number at a time.
    :param size: approximate maximum number of bytes at a time.
    :raises VoucherifyConfigurationError: a line is too long.
    """
    number, readline = 0, file.readline
    while True:
        lines: list[bytes] = []
        remaining = size
        while len(lines) < rows and remaining > 0 and (line := readline(MAX_LINE_BYTES)):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise _too_long(name, number)
            lines.append(line)
            remaining -= len(line)
        if not lines:
            return
        yield lines


def _too_long(name: str, line: int) -> VoucherifyConfigurationError:
    return VoucherifyConfigurationError(f"line {line:,} of {name} has more than {MAX_LINE_BYTES:,} bytes")


def _text(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the file, after checking that it begins like text."""
    readable: Any = file if hasattr(file, "peek") else io.BufferedReader(_Borrowed(file), _BYTES_PER_READ)
    begins = readable.peek(4)
    for beginning, kind in _BEGINNINGS.items():
        if begins.startswith(beginning):
            raise VoucherifyConfigurationError(f"{name} is {kind}")
    text: IO[bytes] = readable
    return text


class _Borrowed(io.RawIOBase):
    """A file that stays open for its owner."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _read(self, size: int) -> bytes:
        return self._file.read(size)


class _Unpacked(_Borrowed):
    """The content of a gzip file, with readable errors."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        super().__init__(gzip.GzipFile(fileobj=file, mode="rb"))  # type: ignore[arg-type]
        self._name = name

    def _read(self, size: int) -> bytes:
        try:
            return super()._read(size)
        except EOFError:
            raise VoucherifyConfigurationError(f"{self._name} is incomplete: the gzipped file ends too early") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise VoucherifyConfigurationError(f"{self._name} cannot be unpacked: {error}") from None


class _Counted(io.BufferedIOBase):
    """
    Counts the bytes for a decoder, which reads ahead.

    :ivar lines: number of line breaks before what was read last.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.lines = 0
        self._file = file
        self._name = name
        self._last = b""
        self._unbroken = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        self.lines += self._last.count(b"\n")
        self._last = self._file.read(_BYTES_PER_READ)
        line_break = max(self._last.rfind(b"\n"), self._last.rfind(b"\r"))
        self._unbroken = len(self._last) - line_break - 1 + (self._unbroken if line_break < 0 else 0)
        if self._unbroken > MAX_LINE_BYTES:
            raise _too_long(self._name, self.lines + 1)
        return self._last
