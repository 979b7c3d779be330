"""
What an item would be if Voucherify had its record exactly as it is sent: so that most comparisons are one of bytes.

An export's cells are text. Which members are numbers or booleans is taken from some items of the source, so a record
that Voucherify has as it is sent gives the very bytes of its item. One whose bytes differ is looked at closely: a wrong
guess costs time and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from airflow_provider_voucherify.sync.comparison.export_columns import METADATA, Path

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII).fullmatch
_MAX_CHARACTERS = 15
"""Of a number with a fraction: more digits than these can be another number than the double that is made of them."""

_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_numbers = msgspec.json.Decoder(list[int | float]).decode


class ExpectedItems:
    """
    Makes items of cells.

    :param key: the first member of every item.
    :param paths: of the cells, in the order of the members of items.
    :param samples: some items of the source.
    """

    def __init__(self, key: str, paths: Sequence[Path], samples: Iterable[bytes]) -> None:
        kinds: dict[Path, type] = {}
        for sample in map(msgspec.json.decode, samples):
            for path in paths:
                if (value := _value(sample, path)) is not None:
                    kinds.setdefault(path, type(value))
        self._numeric = [place for place, path in enumerate(paths) if kinds.get(path) in (int, float)]
        self._make = None if METADATA in paths else _compiled(key, paths, kinds, self._numeric)

    def of(self, ids: Sequence[str], cells: Sequence[Sequence[str | None]]) -> list[bytes]:
        """Return the items of some records; empty ones, if items cannot be told from cells."""
        if self._make is None:
            return [b""] * len(ids)
        numbers = [_numbers([line[place] for line in cells]) for place in self._numeric]
        return _encode_lines(self._make(zip(ids, cells, *numbers, strict=True))).split(b"\n")[:-1]


def _numbers(cells: Sequence[str | None]) -> Sequence[Any]:
    """Return what cells of numbers are written as in items: those that are none as text."""
    try:
        text = ",".join(cells)  # type: ignore[arg-type]
        numbers = _decode_numbers(f"[{text}]")
    except (TypeError, msgspec.DecodeError):
        pass
    else:
        is_exact = "." not in text or max(map(len, text.split(","))) <= _MAX_CHARACTERS
        if is_exact and len(numbers) == len(cells) and not any(map(text.__contains__, " \t\r\neE")):
            return numbers
    return [msgspec.Raw(cell.encode()) if cell and _NUMBER(cell) else cell for cell in cells]


def _value(record: Any, path: Path) -> Any:
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _compiled(
    key: str, paths: Sequence[Path], kinds: dict[Path, type], numeric: Sequence[int]
) -> Callable[[Any], list[Any]]:
    """
    Return the function that makes structs; only numbers go into its code, no names or values.

    It is given of each line its id, its cells, and what the ``numeric`` ones are written as.
    """
    names: dict[str, Any] = {"words": _WORDS}
    written = {int: "n{0}", float: "n{0}", bool: "words.get(c{0}, c{0})"}
    by_first: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        by_first.setdefault(path[0], []).append(place)
    members, values = [("key", key)], ["i"]
    for name, places in by_first.items():
        cells = [written.get(kinds.get(paths[place], str), "c{0}").format(place) for place in places]
        if len(paths[places[0]]) == 1:
            value = cells[0]
        else:
            inner = f"object{places[0]}"
            names[inner] = _struct(inner, [(f"f{place}", paths[place][1]) for place in places])
            value = f"({inner}({', '.join(cells)}) if {' or '.join(f'c{place}' for place in places)} else '')"
        members.append((f"f{places[0]}", name))
        values.append(value)
    names["record"] = _struct("record", members)
    unpacked = f"({', '.join(f'c{place}' for place in range(len(paths)))},)" if paths else "_"
    each = ", ".join(["i", unpacked, *(f"n{place}" for place in numeric)])
    record = f"record({', '.join(values)})"
    make: Callable[[Any], list[Any]] = eval(f"lambda lines: [{record} for {each} in lines]", names)  # noqa: S307
    return make


def _struct(name: str, members: Iterable[tuple[str, str]]) -> Any:
    """Make a type whose members are left out where their cell is empty."""
    members = list(members)
    fields: list[Any] = [(attribute, Any, "") for attribute, _ in members]
    return msgspec.defstruct(name, fields, rename=dict(members), omit_defaults=True, gc=False)
