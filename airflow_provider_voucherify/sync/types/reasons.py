"""Failed and refused records, grouped by their reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.text import counted, shortened

SHOWN_IDS = 3
"""Records that are named for each reason."""

MAX_REASONS = 20
"""Reasons that a summary has."""

OTHER = "other"
"""The key that stands for all further ones."""

MAX_GROUPS = 500
"""Reasons that are told apart while they are counted; what comes later counts as its key alone."""

_VALUE = re.compile(r"""(?<=actual value is ).*?(?=\)|$)|'[^']*'|"[^"]*"|\d+""")


@dataclass(slots=True)
class Reason:
    """
    Failed or refused records that have the same reason.

    :param outcome: ``failed`` at Voucherify or ``refused`` before sending.
    :param key: kind of the reason; None if none is given.
    :param message: what it says. Values that differ from record to record, such as ids and numbers, are ``…`` in it.
    :param count: how many records.
    :param ids: the first of them, named as ``name_of`` does.
    """

    outcome: str
    key: str | None
    message: str | None
    count: int = 0
    ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NewlyFailed:
    """
    Failed and refused records that had not failed in the last sync.

    :param ids: of the first of them.
    """

    count: int
    ids: list[str]


class Reasons:
    """
    Counts failures by their reason, in memory that does not grow with them.

    :param first: what was counted before, each as a dict of its members.
    """

    def __init__(self, first: Iterable[Mapping[str, Any]] = ()) -> None:
        self._groups: dict[tuple[str, str | None, str | None], Reason] = {}
        for members in first:
            one = Reason(**members)
            group = self._group(one.outcome, one.key, one.message, _shape(one.message))
            group.count += one.count
            group.ids = [*group.ids, *one.ids][:SHOWN_IDS]

    def add(self, failure: Failure, count: int = 1) -> None:
        """
        Count a failure.

        :param count: of how many records it is the reason; if it names none, it is one reason for all of them.
        """
        text = reason_text(failure)
        shape = _shape(text, failure.id)
        group = self._group(failure.outcome, shortened(failure.key), text, shape)
        group.count += count
        if len(group.ids) < SHOWN_IDS and (failure.id or failure.row is not None):
            group.ids.append(name_of(failure))

    def most_frequent(self) -> list[dict[str, Any]]:
        """Return the members of the most frequent reasons, and the others together."""
        ordered = sorted(self._groups.values(), key=lambda one: -one.count)
        if len(ordered) <= MAX_REASONS:
            return [asdict(one) for one in ordered]
        shown, rest = ordered[: MAX_REASONS - 2], ordered[MAX_REASONS - 2 :]
        for outcome in dict.fromkeys(one.outcome for one in rest):
            counts = [one.count for one in rest if one.outcome == outcome]
            shown.append(Reason(outcome, OTHER, counted(len(counts), "more reason"), sum(counts)))
        return [asdict(one) for one in shown]

    def _group(self, outcome: str, key: str | None, text: str | None, shape: str | None) -> Reason:
        place = (outcome, key, shape)
        if place not in self._groups and len(self._groups) >= MAX_GROUPS:
            place, text = (outcome, key, None), None
        if (group := self._groups.get(place)) is None:
            group = self._groups[place] = Reason(outcome, key, text)
        elif group.message != text:
            group.message = shape
        return group


def reason_text(failure: Failure) -> str | None:
    """Return message and details as one text; the place of a row is no part of its reason."""
    details = failure.details if failure.row is None else None
    return shortened(" - ".join(part for part in (failure.message, details) if part) or None)


def name_of(failure: Any) -> str:
    """Return what a failure is found by: the record's id, or the place of its row and another column."""
    if failure.id or failure.row is None:
        return shortened(failure.id) or "(no id)"
    return f"row {failure.row:,}" + (f" ({shortened(failure.hint)})" if failure.hint else "")


def _shape(text: str | None, record_id: str | None = None) -> str | None:
    """Return a text with ``…`` for what is likely to be a record's own: its id, quoted values and numbers."""
    if text is None:
        return None
    if record_id and len(record_id) > 1:
        text = text.replace(record_id, "…")
    return _VALUE.sub("…", text)
