"""The result of a bulk update or an import, read entry by entry and as tolerantly as an ``async_action``."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Self

import msgspec

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.partial_json import decoded, elements, kind, members, scalar
from airflow_provider_voucherify.models.tolerant import count_or_none, flag_or_none, text_or_none

MAX_REASON = 2_000
"""Characters kept of each text about one record: texts are kept in memory, and copied for each record."""

_MAX_DIGITS = 18


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


@dataclass(frozen=True, slots=True)
class Named:
    """
    The ids by which an entry of a result names a record.

    :param source_id: of a customer or product.
    :param code: of a voucher; in an error of the vendor's general form it is a status, such as 400.
    """

    source_id: str | int | None = None
    code: str | int | None = None

    def record_id(self, key: str | None = None, known: Container[str] | None = None) -> str | None:
        """
        Return the record's id; None if the entry has none.

        :param key: of the endpoint, ``source_id`` or ``code``; None if unknown.
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
    Why one record failed: an entry of ``errors[]``. Those of metadata updates may name no record.

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
    Why one row of an import failed. Imports of SKUs name no id, and the id of a row without one is empty.

    :param row: its number in the file, from 1, without the header.
    """

    row: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """
    The ``result`` of a bulk or metadata update or an import, in any of its documented shapes.

    The lists are decoded entry by entry while they are read, and not kept.

    :param done_count: records that Voucherify counts as processed; None if it does not say.
    :param failed_count: records that it counts as failed; None if it does not say.
    :param reports_available_till: the time until which the reports can be downloaded.
    """

    done_count: int | None = None
    failed_count: int | None = None
    reports_available_till: str | None = None
    _lists: _WireResult = field(default_factory=_WireResult, repr=False)

    @classmethod
    def of(cls, action: AsyncAction) -> Self:
        """Read the result of an action; of an action without one all fields are absent."""
        wire = _WireResult() if action.result_json is None else members(action.result_json, _WireResult)
        assert wire is not None, "a result is an object"
        failed = scalar(wire.failed_count)
        if isinstance(failed, str) and failed.isdecimal():
            failed = int(failed[:_MAX_DIGITS])
        elif isinstance(failed, float) and failed.is_integer():
            failed = int(failed)
        return cls(
            count_or_none(scalar(wire.done_count)),
            count_or_none(failed),
            text_or_none(scalar(wire.reports_available_till)),
            wire,
        )

    @property
    def reports(self) -> Iterator[str]:
        """URLs of report files."""
        raw = self._lists.reports
        urls = (scalar(url) for url in elements(raw)) if kind(raw) == b"[" else iter(())
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
            yield LegacyRow(*_ids(entry), flag_or_none(scalar(entry.found)), flag_or_none(scalar(entry.updated)))

    @property
    def has_results(self) -> bool:
        """Whether it has rows of the legacy shape."""
        return next(self.results, None) is not None

    @property
    def failed(self) -> Iterator[ImportFailure]:
        """One entry per failed row of an import."""
        for entry in _entries(self._lists.failed):
            yield ImportFailure(*_ids(entry), count_or_none(scalar(entry.row)), _reason(entry.reason))


def _ids(entry: _WireEntry) -> tuple[str | int | None, str | int | None]:
    return _id_or_none(scalar(entry.source_id)), _id_or_none(scalar(entry.code))


def _id_or_none(value: object) -> str | int | None:
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def _reason(raw: msgspec.Raw) -> str | None:
    """Decode a text of any length, and keep at most ``MAX_REASON`` characters of it."""
    text = decoded(raw) if kind(raw) == b'"' else None
    if not isinstance(text, str):
        return None
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def _entries(raw: msgspec.Raw) -> Iterator[_WireEntry]:
    """Yield the entries of a list. One that is not an object counts as an empty entry; null is skipped."""
    nothing = (b"", b"{}", b'""', b"0", b"false", b"null")
    for entry in elements(raw) if kind(raw) == b"[" else {bytes(raw)}.difference(nothing):
        if entry[:1] == b"{":
            yield msgspec.json.decode(entry, type=_WireEntry)
        elif entry != b"null":
            yield _WireEntry()
