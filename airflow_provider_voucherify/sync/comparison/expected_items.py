"""
What an item would be if Voucherify had its record exactly as it is sent: so that most comparisons are one of bytes.

An export's cells are text. Which members are numbers or booleans is taken from items of the source, so a line that
Voucherify has as it is sent gives the very bytes of its item. One that does not is looked at closely; a wrong guess
costs time and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from airflow_provider_voucherify.sync.comparison.export_columns import METADATA, Path

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})").fullmatch
_FLOAT = re.compile(r"-?(0|[1-9]\d*)\.\d+").fullmatch
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_encode = msgspec.json.Encoder().encode_lines


class ExpectedItems:
    """
    Makes items of cells.

    :param key: the first member of every item.
    :param paths: of the cells, in the order of the members of items.
    :param samples: some items of the source.
    """

    def __init__(self, key: str, paths: Sequence[Path], samples: Iterable[bytes]) -> None:
        kinds: dict[Path, type] = {}
        for sample in samples:
            record = msgspec.json.decode(sample)
            for path in paths:
                value = _value(record, path)
                if value is not None:
                    kinds.setdefault(path, type(value))
        self.makes_items = METADATA not in paths and not any(kind in (list, dict) for kind in kinds.values())
        if self.makes_items:
            self._make = _compiled(key, paths, kinds)

    def of(self, ids: Sequence[str], cells: Sequence[Sequence[str | None]]) -> list[bytes]:
        """Return the items of some records; empty ones, if no item can be told from cells."""
        if not self.makes_items:
            return [b""] * len(ids)
        try:
            return _encode(self._make(zip(ids, cells, strict=True))).split(b"\n")[:-1]
        except (ValueError, TypeError):
            return [b""] * len(ids)


def _value(record: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def _compiled(key: str, paths: Sequence[Path], kinds: dict[Path, type]) -> Callable[[Any], list[Any]]:
    """Return the function that makes structs of lines; only numbers go into its code, never names or values."""
    names: dict[str, Any] = {"integer": _integer, "number": _number, "word": _word}
    by_first: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        by_first.setdefault(path[0], []).append(place)
    members, values = [("key", key)], ["i"]
    for name, places in by_first.items():
        made = [_converted(kinds.get(paths[place], str), place) for place in places]
        if len(paths[places[0]]) == 1:
            value = made[0]
        else:
            inner = f"object{places[0]}"
            names[inner] = _struct(inner, [(f"f{place}", paths[place][1]) for place in places])
            value = f"({inner}({', '.join(made)}) if {' or '.join(f'c{place}' for place in places)} else None)"
        members.append((f"f{places[0]}", name))
        values.append(value)
    names["record"] = _struct("record", members)
    cells = "".join(f"c{place}, " for place in range(len(paths)))
    unpacked = f"({cells})" if paths else "_"
    record = f"record({', '.join(values)})"
    make: Callable[[Any], list[Any]] = eval(f"lambda lines: [{record} for i, {unpacked} in lines]", names)  # noqa: S307
    return make


def _converted(kind: type, place: int) -> str:
    convert = {int: "integer", float: "number", bool: "word"}.get(kind)
    return f"(c{place} or None)" if convert is None else f"{convert}(c{place})"


def _struct(name: str, members: Iterable[tuple[str, str]]) -> Any:
    members = list(members)
    fields: list[Any] = [(attribute, Any, None) for attribute, _ in members]
    return msgspec.defstruct(name, fields, rename=dict(members), omit_defaults=True, gc=False)


def _integer(cell: str | None) -> Any:
    if not cell:
        return None
    return int(cell) if cell.isascii() and cell.isdigit() and cell[0] != "0" and len(cell) < 19 else _number(cell)


def _number(cell: str | None) -> Any:
    return (float(cell) if _FLOAT(cell) else int(cell) if _INTEGER(cell) else cell) if cell else None


def _word(cell: str | None) -> Any:
    return _WORDS.get(cell, cell) if cell else None
