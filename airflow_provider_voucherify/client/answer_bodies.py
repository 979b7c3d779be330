"""The bodies of answers, read and unpacked within limits of size and time."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

import httpx

from airflow_provider_voucherify.client.deadlines import headers_received
from airflow_provider_voucherify.client.steps import Answer

MAX_ACTION_BYTES = 256 * 1024 * 1024
"""Largest async action that is accepted; the errors of one 10 MiB batch are far smaller."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""The same for any other answer to a GET: a page of 100 records, or a project's metadata schemas."""

MAX_WRITE_ANSWER_BYTES = 8 * 1024 * 1024
"""The same for anything but a GET: an id, a token or one record."""

MAX_ERROR_BYTES = 64 * 1024
"""Number of bytes of an error answer that are read."""

ENCODINGS = {"Accept-Encoding": "gzip"}
"""Encodings that are requested, and unpacked here: httpx itself would expand a small body to a gigabyte."""

_PIECE_BYTES = 256 * 1024
"""Number of bytes unpacked at a time."""


class Unpacking:
    """
    Undoes an answer's content encoding in small pieces, so that a reader that counts bytes can stop in time.

    :param encoding: value of ``Content-Encoding``: gzip once, or none; others are not supported.
    """

    def __init__(self, encoding: str) -> None:
        self._name = encoding.strip().lower()
        self.is_known = self._name in ("", "identity", "gzip", "x-gzip")
        self._gzip = self._new() if self._name in ("gzip", "x-gzip") else None
        self._began = False

    def check(self) -> None:
        """Raise if the encoding was not requested."""
        if not self.is_known:
            raise httpx.DecodingError(f"the answer is encoded with {self._name[:60]!r}, but only gzip was requested")

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the content of a chunk; that of gzip may be a thousand times larger."""
        if self._gzip is None:
            yield chunk
            return
        self._began = self._began or bool(chunk)
        while True:
            try:
                piece = self._gzip.decompress(chunk, _PIECE_BYTES)
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from error
            chunk = self._gzip.unconsumed_tail
            if self._gzip.eof and self._gzip.unused_data.startswith(b"\x1f"):  # another gzip member follows
                chunk, self._gzip = self._gzip.unused_data, self._new()
            elif not chunk and len(piece) < _PIECE_BYTES:
                yield piece
                return
            yield piece

    def end(self) -> None:
        """Raise if the compressed body ended too early."""
        if self._gzip is not None and self._began and not self._gzip.eof:
            raise httpx.DecodingError("the gzip data ends too early")

    @staticmethod
    def _new() -> zlib._Decompress:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


class AnswerBody:
    """
    Collects an answer's body within bounds of size and time.

    The time starts when the headers have arrived, however long the request's own body took. A piece that comes too late
    is still kept, since an answer to a POST must not be thrown away; only another one after it is an error.

    :param seconds: time limit for the body.
    :param large: whether the limit is ``MAX_ACTION_BYTES``.
    """

    def __init__(self, response: httpx.Response, seconds: float, *, large: bool) -> None:
        headers_received(response)
        self._response = response
        self._deadline = time.monotonic() + seconds
        self._late = False
        self._limit = MAX_ANSWER_BYTES if response.request.method == "GET" else MAX_WRITE_ANSWER_BYTES
        self._limit = MAX_ACTION_BYTES if large else self._limit
        self._limit = self._limit if response.is_success else MAX_ERROR_BYTES
        self._body = bytearray()
        self._unpacking = Unpacking(response.headers.get("content-encoding", ""))
        if response.is_success:
            self._unpacking.check()

    def take(self, chunk: bytes) -> bool:
        """Add a chunk as it was sent; say whether more may follow."""
        if self._late:
            raise httpx.ReadTimeout("the answer came too slowly")
        self._late = time.monotonic() > self._deadline
        for piece in self._unpacking.pieces(chunk):
            self._body += piece
            if len(self._body) > self._limit:
                break
        if len(self._body) > self._limit and self._response.is_success:
            raise httpx.ReadError(f"the answer is larger than {self._limit:,} bytes")
        return len(self._body) <= self._limit

    def answer(self) -> Answer:
        """Return the answer with what was read of its body."""
        if self._response.is_success:
            self._unpacking.end()
        headers = {name.lower(): value for name, value in self._response.headers.items()}
        return Answer(self._response.status_code, headers, bytes(self._body[: self._limit]))
