"""
What an item would be if Voucherify had its record exactly as it is sent: so that most comparisons are one of bytes.

An export's cells are text, and an item's values have types, so both are compared without the quotes around values. No
two texts become the same by that: a quote inside a text is written with a backslash before it, and those around the
names of members stay. An item whose bytes differ is looked at closely: a wrong guess costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from airflow_provider_voucherify.sync.comparison.export_columns import METADATA, Path

_encode_lines = msgspec.json.Encoder().encode_lines


def without_quotes(lines: bytes) -> bytes:
    """Return items without the quotes around their values; a null stays different from the text of that word."""
    return (
        lines.replace(b":null", b":\x00")
        .replace(b'":"', b'":')
        .replace(b'","', b',"')
        .replace(b'"}', b"}")
        .replace(b'"\n', b"\n")
    )


class ExpectedItems:
    """
    Makes items of cells.

    :param key: the first member of every item.
    :param paths: of the cells, in the order of the members of items.
    """

    def __init__(self, key: str, paths: Sequence[Path]) -> None:
        self._make = None if METADATA in paths else _compiled(key, paths)

    def of(self, ids: Sequence[str], cells: Sequence[Sequence[str | None]]) -> list[bytes]:
        """Return the items of some records, ``without_quotes``; empty ones, if items cannot be told from cells."""
        if self._make is None:
            return [b""] * len(ids)
        lines = _encode_lines(self._make(zip(ids, cells, strict=True)))
        return without_quotes(lines).split(b"\n")[:-1]


def _compiled(key: str, paths: Sequence[Path]) -> Callable[[Any], list[Any]]:
    """Return the function that makes structs of ids and cells; only numbers go into its code, no names or values."""
    names: dict[str, Any] = {}
    by_first: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        by_first.setdefault(path[0], []).append(place)
    members, values = [("key", key)], ["i"]
    for name, places in by_first.items():
        cells = [f"c{place}" for place in places]
        if len(paths[places[0]]) == 1:
            value = cells[0]
        else:
            inner = f"object{places[0]}"
            names[inner] = _struct(inner, [(f"f{place}", paths[place][1]) for place in places])
            value = f"({inner}({', '.join(cells)}) if {' or '.join(cells)} else '')"
        members.append((f"f{places[0]}", name))
        values.append(value)
    names["record"] = _struct("record", members)
    cells = [f"c{place}" for place in range(len(paths))]
    unpacked = f"({', '.join(cells)},)" if cells else "_"
    record = f"record({', '.join(values)})"
    make: Callable[[Any], list[Any]] = eval(f"lambda lines: [{record} for i, {unpacked} in lines]", names)  # noqa: S307
    return make


def _struct(name: str, members: Iterable[tuple[str, str]]) -> Any:
    """Make a type whose members are left out where their cell is empty."""
    members = list(members)
    fields: list[Any] = [(attribute, Any, "") for attribute, _ in members]
    return msgspec.defstruct(name, fields, rename=dict(members), omit_defaults=True, gc=False)
