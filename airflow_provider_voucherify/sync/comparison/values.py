"""
How a value that is sent compares with the text that an export has of it; there is no other place that decides it.

An export is CSV, so it knows no types. These are the rules:

* Text is the same if every character is. Numbers are the same if their values are: whole ones digit by digit, others
  as the double that JSON's readers make of them. Booleans are the same in any case of the letters.
* Dates and times are the same if they are the same instant, however many zeros they are written with.
* An empty cell is the same as null, as an empty text or list, and as a value that was never set: an export cannot tell
  these.
* Lists and objects are compared as JSON, member by member; an object that is nested in metadata has to be the same as a
  whole. A list of texts may also be written with separators, if none of its texts has one.
* The number 12 and the text "12" look the same in CSV, and so do a boolean and its word, so they count as the same.
  Only reading single records as JSON tells them apart.
* What cannot be compared counts as different: a field whose column is not in the export, or is there twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_SEPARATORS = (",", ", ", ";", "; ", "|")

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def is_same(sent: Any, found: str | Mapping[str, str] | None) -> bool:
    """
    Say whether Voucherify has a value as it is sent.

    :param sent: decoded JSON; its numbers are int, Decimal or float.
    :param found: the cell of an export; of a whole ``metadata`` object its members' cells; None if there is none.
    """
    if isinstance(found, Mapping):
        members = sent if isinstance(sent, Mapping) else {}
        return all(is_same(value, found.get(name, "")) for name, value in members.items())
    if found is None:
        return False
    match sent:
        case None:
            return not found
        case str():
            return sent == found or (bool(sent) and bool(found) and _is_same_time(sent, found))
        case bool():
            return found.lower() == str(sent).lower()
        case int() | float() | Decimal():
            return _NUMBER.fullmatch(found) is not None and _is_same_number(sent, found)
        case _:
            return _is_same_structure(sent, found)


def differing_members(sent: Mapping[str, Any], stored: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """
    Compare a record with one that was read as JSON, which has types: give where they differ, and both values.

    Members of ``metadata`` and ``address`` are compared one by one, so that others may be there.
    """
    for name, value in sent.items():
        found = stored.get(name)
        if isinstance(value, Mapping) and name in ("metadata", "address"):
            members = found if isinstance(found, Mapping) else {}
            pairs: list[Any] = [((name, member), one, members.get(member)) for member, one in value.items()]
        else:
            is_empty = name in ("metadata", "address") and isinstance(found, Mapping) and not any(found.values())
            pairs = [((name,), value, None if is_empty else found)]
        yield from (pair for pair in pairs if not _equal(pair[1], pair[2]))


def _is_same_number(sent: float | Decimal, found: float | Decimal | str) -> bool:
    try:
        sent, found = Decimal(str(sent)), Decimal(str(found))
        whole = sent == sent.to_integral_value()
        return sent == found if whole else float(sent) == float(found)
    except (ValueError, ArithmeticError):
        return False


def _is_same_time(sent: str, found: str) -> bool:
    """Say whether two texts are the same date, or the same time with a time zone."""
    if not (_TIME.fullmatch(sent) and _TIME.fullmatch(found)):
        return False
    try:
        return _instant(sent) == _instant(found)
    except (ValueError, OverflowError):
        return False


def _instant(text: str) -> datetime | str:
    """Return a time in UTC, a date as its midnight; text as it is where there is no time zone."""
    if len(text) == len("2000-01-31"):
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    time = datetime.fromisoformat(text)
    return text if time.tzinfo is None else time.astimezone(UTC)


def _is_same_structure(sent: Any, found: str) -> bool:
    try:
        return _equal(sent, _decode(found))
    except (msgspec.DecodeError, RecursionError):
        pass
    if not isinstance(sent, list) or not all(isinstance(one, str) and one for one in sent):
        return not sent and not found
    apart = (separator for separator in _SEPARATORS if not any(separator.strip() in one for one in sent))
    return any(separator.join(sent) == found for separator in apart)


def _equal(sent: Any, found: Any) -> bool:
    """Compare decoded JSON; a member that is null is the same as none."""
    if isinstance(sent, Mapping) and isinstance(found, Mapping):
        return all(_equal(sent.get(name), found.get(name)) for name in sent.keys() | found.keys())
    if isinstance(sent, list) and isinstance(found, list):
        return len(sent) == len(found) and all(map(_equal, sent, found))
    if isinstance(sent, bool) or isinstance(found, bool):
        return sent is found
    if isinstance(sent, int | float | Decimal) and isinstance(found, int | float | Decimal):
        return _is_same_number(sent, found)
    if isinstance(sent, str) and isinstance(found, str):
        return sent == found or _is_same_time(sent, found)
    return sent is None and found is None
