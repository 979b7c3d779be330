"""JSON decoded no further than needed: large answers are read member by member, large arrays element by element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

import msgspec

MAX_VALUE_BYTES = 65_536
"""Bytes of JSON of a single id, number or word; one that is longer counts as absent."""

_W = TypeVar("_W", bound=msgspec.Struct)


def elements(array: bytes | msgspec.Raw) -> Iterator[bytes]:
    """
    Yield the elements of a JSON array one after the other, none of them decoded.

    :param array: well-formed, as ``msgspec.Raw`` is.
    """
    view = memoryview(array)
    depth = start = 0
    for token in _TOKENS.finditer(view):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                if depth == 1:
                    start = token.end()
            case b"," if depth == 1:
                yield bytes(view[start : token.start()]).strip()
                start = token.end()
            case b"]" | b"}":
                depth -= 1
                if depth == 0 and (last := bytes(view[start : token.start()]).strip()):
                    yield last


_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)


def members(json: bytes, of: type[_W]) -> _W | None:
    """Split an object into the members that a struct names; None for JSON of another kind."""
    try:
        return msgspec.json.decode(json, type=of)
    except msgspec.ValidationError:
        return None


def scalar(raw: bytes | msgspec.Raw) -> object:
    """Decode a value that is neither an object nor an array, nor long; None for others."""
    if kind(raw) in (b"", b"[", b"{") or len(memoryview(raw)) > MAX_VALUE_BYTES:
        return None
    return decoded(raw)


def kind(raw: bytes | msgspec.Raw) -> bytes:
    """Return the first character of a value's JSON, which tells its kind; nothing for one that is absent."""
    return memoryview(raw)[:1].tobytes()


def decoded(raw: bytes | msgspec.Raw) -> object:
    """Decode a value; None if it cannot be decoded."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
