"""
Voucherify's async action and the result of a bulk update or an import, read tolerantly.

The vendor's own examples contradict the schema, several shapes are live (``result`` has changed over the years)
and no field is marked required, so everything but the id may be absent and unknown fields are ignored.
Source: documentation/openapi/async-actions.json.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Self, TypeVar

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_REASON = 2_000
"""Characters that are kept of what an action says of one record: texts are remembered, and copied for each record."""

MAX_VALUE_BYTES = 65_536
"""Bytes of JSON of a single id, number or word; one that is longer counts as absent."""

MAX_LISTED_ACTIONS = 1_000
"""Actions of a page of the list that are read; the API gives at most 100."""


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _word_or_none(value: object) -> str | None:
    """Words are shown in logs: one that could add a line there, or colours, is no word of the API's."""
    return value if isinstance(value, str) and value.isprintable() else None


def _count_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _flag_or_none(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _object_json_or_none(value: object) -> bytes | None:
    """Return an object as JSON, whether it is decoded or not."""
    if isinstance(value, msgspec.Raw | bytes):
        return bytes(value) if _kind(value) == b"{" else None
    return msgspec.json.encode(value) if isinstance(value, Mapping) else None


_YEAR_5000 = 95_617_584_000.0


def epoch(moment: str | None) -> float | None:
    """Read a time of the API's (ISO-8601, UTC where it has no offset) as Unix epoch seconds; None where it is none."""
    try:
        read = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    seconds = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 <= seconds < _YEAR_5000 else None


def iso(moment: float | datetime) -> str:
    """
    Write a time as the API does, e.g. ``2022-09-05T11:40:17.098Z``.

    :param moment: Unix epoch seconds, or a time; one without a time zone is taken as UTC.
    """
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_Text = Annotated[str | None, BeforeValidator(_text_or_none)]
_Word = Annotated[str | None, BeforeValidator(_word_or_none)]
_Flag = Annotated[bool | None, BeforeValidator(_flag_or_none)]
_Count = Annotated[int | None, BeforeValidator(_count_or_none)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class AsyncAction(_Answer):
    """
    An async action: a job in Voucherify's queue.

    :param status: ``ENQUEUED``, ``IN_PROGRESS``, ``DONE`` or ``FAILED``; another word is taken as "not finished".
    :param operation_status: ``SUCCESS``, ``FAILED`` or ``UNKNOWN``; absent in older actions.
    :param progress: percent, 0 to 100.
    :param processing_time: milliseconds.
    :param result_json: the result as it came; absent in lists and before the end. It is not decoded until somebody asks
        for it: decoded, JSON can take a hundred times the memory.
    """

    id: str = Field(min_length=1)
    type: _Word = None
    status: _Word = None
    operation_status: _Word = None
    progress: _Count = None
    processing_time: _Count = None
    created_at: _Text = None
    updated_at: _Text = None
    request_id: _Text = None
    result_json: Annotated[bytes | None, BeforeValidator(_object_json_or_none)] = Field(
        default=None, alias="result", repr=False
    )

    @property
    def result(self) -> dict[str, Any] | None:
        """The whole result, decoded anew each time; its form depends on ``type``."""
        return None if self.result_json is None else msgspec.json.decode(self.result_json, type=dict[str, Any])

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen. ``DONE`` is not success: see ``sync.results.settlement``."""
        return self.status in ("DONE", "FAILED")


class AsyncActionList(_Answer):
    """
    One page of ``GET /v1/async-actions``, newest first; its actions have no ``result``.

    :param has_more: whether older ones follow; the vendor's own example answer lacks it.
    """

    async_actions: list[AsyncAction]
    has_more: _Flag = None

    @property
    def is_last(self) -> bool:
        """Whether nothing older follows; a page that does not tell is the last one only if it is empty."""
        return not self.async_actions or self.has_more is False


class _Wire(msgspec.Struct):
    """Members of a JSON object that have not been decoded yet; those of other names are not even looked at."""

    id: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    status: msgspec.Raw = msgspec.Raw()
    operation_status: msgspec.Raw = msgspec.Raw()
    progress: msgspec.Raw = msgspec.Raw()
    processing_time: msgspec.Raw = msgspec.Raw()
    created_at: msgspec.Raw = msgspec.Raw()
    updated_at: msgspec.Raw = msgspec.Raw()
    request_id: msgspec.Raw = msgspec.Raw()


class _WireAction(_Wire):
    result: msgspec.Raw = msgspec.Raw()


class _WireList(msgspec.Struct):
    async_actions: msgspec.Raw = msgspec.Raw()
    has_more: msgspec.Raw = msgspec.Raw()


class _WireResult(msgspec.Struct):
    done_count: msgspec.Raw = msgspec.Raw()
    failed_count: msgspec.Raw = msgspec.Raw()
    reports: msgspec.Raw = msgspec.Raw()
    reports_available_till: msgspec.Raw = msgspec.Raw()
    errors: msgspec.Raw = msgspec.Raw()
    results: msgspec.Raw = msgspec.Raw()
    failed: msgspec.Raw = msgspec.Raw()


class _WireEntry(msgspec.Struct):
    """An entry of ``errors``, ``results`` or ``failed``."""

    source_id: msgspec.Raw = msgspec.Raw()
    code: msgspec.Raw = msgspec.Raw()
    key: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    details: msgspec.Raw = msgspec.Raw()
    reason: msgspec.Raw = msgspec.Raw()
    row: msgspec.Raw = msgspec.Raw()
    found: msgspec.Raw = msgspec.Raw()
    updated: msgspec.Raw = msgspec.Raw()


_W = TypeVar("_W", bound=msgspec.Struct)


def decode_action(answer: bytes) -> object:
    """
    Decode the answer of ``GET /v1/async-actions/{id}`` as far as ``AsyncAction`` needs it.

    :returns: a dict, or None if the answer is JSON of another kind.
    :raises msgspec.DecodeError: it is not JSON.
    """
    action = _members(answer, _WireAction)
    return None if action is None else _scalars(action) | {"result": action.result}


def decode_status(answer: bytes) -> object:
    """Decode the same answer without the result, of which nothing is kept however large it is."""
    action = _members(answer, _Wire)
    return None if action is None else _scalars(action)


def decode_action_list(answer: bytes) -> object:
    """Decode the answer of ``GET /v1/async-actions`` as far as ``AsyncActionList`` needs it."""
    page = _members(answer, _WireList)
    if page is None:
        return None
    decoded: dict[str, object] = {"has_more": _scalar(page.has_more)}
    if _kind(page.async_actions) == b"[":
        listed = islice(elements(page.async_actions), MAX_LISTED_ACTIONS)
        decoded["async_actions"] = [decode_status(action) for action in listed]
    return decoded


def elements(array: bytes | msgspec.Raw) -> Iterator[bytes]:
    """
    Give the elements of a JSON array one after the other, none of them decoded.

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


def _members(json: bytes, of: type[_W]) -> _W | None:
    try:
        return msgspec.json.decode(json, type=of)
    except msgspec.ValidationError:
        return None


def _scalars(wire: msgspec.Struct) -> dict[str, object]:
    """Decode those members that are there."""
    raw = {name: getattr(wire, name) for name in _Wire.__struct_fields__}
    return {name: _scalar(value) for name, value in raw.items() if _kind(value)}


def _scalar(raw: bytes | msgspec.Raw) -> object:
    """Decode a value that is neither an object nor an array, nor long; None for others."""
    if _kind(raw) in (b"", b"[", b"{") or len(memoryview(raw)) > MAX_VALUE_BYTES:
        return None
    return _decoded(raw)


def _kind(raw: bytes | msgspec.Raw) -> bytes:
    """Return the first character of a value's JSON, which tells its kind; nothing for one that is not there."""
    return memoryview(raw)[:1].tobytes()


def _decoded(raw: bytes | msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _reason(raw: msgspec.Raw) -> str | None:
    """Decode a text of any length, and keep at most ``MAX_REASON`` characters of it."""
    text = _decoded(raw) if _kind(raw) == b'"' else None
    if not isinstance(text, str):
        return None
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def _entries(raw: msgspec.Raw) -> Iterator[_WireEntry]:
    """Give the entries of a list. One that is not an object says nothing, but is one; null is none."""
    nothing = (b"", b"{}", b'""', b"0", b"false", b"null")
    for entry in elements(raw) if _kind(raw) == b"[" else {bytes(raw)}.difference(nothing):
        if entry[:1] == b"{":
            yield msgspec.json.decode(entry, type=_WireEntry)
        elif entry != b"null":
            yield _WireEntry()


@dataclass(frozen=True, slots=True)
class Named:
    """
    What names a record in an entry of a result.

    :param source_id: of a customer or product.
    :param code: of a voucher; in an error of the vendor's general form it is a status, such as 400.
    """

    source_id: str | int | None = None
    code: str | int | None = None

    def record_id(self, key: str | None = None, known: Container[str] | None = None) -> str | None:
        """
        Return the record's id, None if the entry names none.

        :param key: of the endpoint, ``source_id`` or ``code``; None if it is not known which of the two.
        :param known: the ids that were sent; a number counts as ``source_id`` only if it is one of them.
        """
        if key is None:
            texts = (value for value in (self.source_id, self.code) if isinstance(value, str) and value)
            return next(texts, None)
        value = self.source_id if key == "source_id" else self.code
        if isinstance(value, int):
            as_text = str(value)
            return as_text if key == "source_id" and known is not None and as_text in known else None
        return value or None


@dataclass(frozen=True, slots=True)
class RecordError(Named):
    """
    Why one record failed, as the result's ``errors[]`` says it; results of metadata updates may name no record.

    :param message: shortened to ``MAX_REASON`` characters, like the other texts.
    """

    key: str | None = None
    message: str | None = None
    details: str | None = None


@dataclass(frozen=True, slots=True)
class LegacyRow(Named):
    """One entry of the ``results[]`` that actions had before August 2024."""

    found: bool | None = None
    updated: bool | None = None


@dataclass(frozen=True, slots=True)
class ImportFailure(Named):
    """
    Why one row of an import failed; imports of SKUs name no id, and that of a row without one is empty.

    :param row: its place in the file, from 1, the header not counted.
    """

    row: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """
    The ``result`` of a bulk or metadata update or an import, in any of its documented shapes.

    The lists are decoded entry by entry while they are read, and none is kept.

    :param done_count: records that Voucherify counts as processed; None where it does not tell.
    :param failed_count: records that it counts as failed; None where it does not tell.
    :param reports_available_till: until when the reports can be downloaded.
    """

    done_count: int | None = None
    failed_count: int | None = None
    reports_available_till: str | None = None
    _lists: _WireResult = field(default_factory=_WireResult, repr=False)

    @classmethod
    def of(cls, action: AsyncAction) -> Self:
        """Read the result of an action; one without a result says nothing."""
        wire = _WireResult() if action.result_json is None else _members(action.result_json, _WireResult)
        assert wire is not None, "a result is an object"
        failed = _scalar(wire.failed_count)
        if isinstance(failed, str) and failed.isdecimal():
            failed = int(failed[:MAX_DIGITS])
        elif isinstance(failed, float) and failed.is_integer():
            failed = int(failed)
        return cls(
            _count_or_none(_scalar(wire.done_count)),
            _count_or_none(failed),
            _text_or_none(_scalar(wire.reports_available_till)),
            wire,
        )

    @property
    def reports(self) -> Iterator[str]:
        """URLs of report files."""
        raw = self._lists.reports
        urls = (_scalar(url) for url in elements(raw)) if _kind(raw) == b"[" else iter(())
        return (url for url in urls if isinstance(url, str) and url)

    @property
    def errors(self) -> Iterator[RecordError]:
        """One entry per failed record."""
        for entry in _entries(self._lists.errors):
            yield RecordError(*_ids(entry), _reason(entry.key), _reason(entry.message), _reason(entry.details))

    @property
    def results(self) -> Iterator[LegacyRow]:
        """The legacy shape's rows."""
        for entry in _entries(self._lists.results):
            yield LegacyRow(*_ids(entry), _flag_or_none(_scalar(entry.found)), _flag_or_none(_scalar(entry.updated)))

    @property
    def has_results(self) -> bool:
        """Whether there are rows of the legacy shape."""
        return next(self.results, None) is not None

    @property
    def failed(self) -> Iterator[ImportFailure]:
        """One entry per failed row of an import."""
        for entry in _entries(self._lists.failed):
            yield ImportFailure(*_ids(entry), _count_or_none(_scalar(entry.row)), _reason(entry.reason))


MAX_DIGITS = 18


def _ids(entry: _WireEntry) -> tuple[str | int | None, str | int | None]:
    return _id_or_none(_scalar(entry.source_id)), _id_or_none(_scalar(entry.code))


def _id_or_none(value: object) -> str | int | None:
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


class OAuthToken(_Answer):
    """
    The answer of ``POST /v1/oauth/token``.

    :param expires_in: lifetime in seconds (the vendor's is 900).
    :param expires_at: end of life, Unix epoch seconds, by the vendor's clock.
    """

    access_token: str = Field(pattern=r"^[!-~]+$", repr=False)
    token_type: str = "Bearer"
    expires_in: _Count = None
    expires_at: _Count = None
    scope: _Text = None
