"""What a sync would change, before and after: the first records for people to read, more of them in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

from airflow_provider_voucherify.sync.comparison.found_records import Difference
from airflow_provider_voucherify.sync.rows.encoding import encode_json
from airflow_provider_voucherify.sync.types.hiding import Hiding
from airflow_provider_voucherify.sync.types.text import counted, cut, on_one_line

SHOWN_RECORDS = 20
"""Records that a log and a summary have."""

MAX_RECORDS = 10_000
"""Records that the file has."""

HEADS = ("id", "change", "field", "at Voucherify", "in the source")
"""Of the columns of a table of differences."""

_MAX_CHARACTERS, _MAX_CHARACTERS_OF_VALUE = 60, 200
_HIDDEN = "…"


class Differences:
    """
    Records beside what Voucherify has, the first ``MAX_RECORDS`` of them; the rest is only counted.

    :param hiding: leaves ids and values out; None to tell all.
    :ivar first: the first ``SHOWN_RECORDS``, as lines of the file have them: ``id``, ``change`` and ``fields``, which
        has for each field ``found`` and ``sent``.
    """

    def __init__(self, hiding: Hiding | None = None) -> None:
        self._hiding = hiding
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115
        self.number = 0
        self.first: list[dict[str, Any]] = []

    @property
    def has_room(self) -> bool:
        """Whether one more is kept."""
        return self.number < MAX_RECORDS

    def add(self, record_id: str, change: str, differences: Sequence[Difference]) -> None:
        """
        Add a record, if there is room for it.

        :param change: ``create``, ``update``, or what reading back has shown: ``differing``, ``missing`` or
            ``not_in_source``.
        """
        self.number += 1
        if self.number > MAX_RECORDS:
            return
        fields = by_field(differences)
        if self._hiding is not None:
            record_id = self._hiding.id(record_id)
            fields = {name: {"found": _HIDDEN, "sent": _HIDDEN} for name in fields}
        line = {"id": record_id, "change": change, "fields": fields}
        self._file.write(encode_json(line) + b"\n")
        if len(self.first) < SHOWN_RECORDS:
            shown = {name: {which: _shown(value) for which, value in both.items()} for name, both in fields.items()}
            self.first.append({**line, "fields": shown})

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the file."""
        self._file.seek(0)
        yield from self._file

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


def by_field(differences: Sequence[Difference]) -> dict[str, dict[str, Any]]:
    """Return what was found and sent of each field that differs."""
    return {one.field: {"found": one.found, "sent": one.sent} for one in differences}


def rows_of(first: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a line of texts for each field of some records, as ``HEADS`` has them; one for a record without fields."""
    for record in first:
        for name, both in record["fields"].items() or {"": {"found": "", "sent": ""}}.items():
            yield record["id"], record["change"].replace("_", " "), name, _text(both["found"]), _text(both["sent"])


def as_table(first: Sequence[dict[str, Any]], number: int) -> str:
    """
    Return a table for a log: one line for each field.

    :param first: as ``Differences.first`` has them.
    :param number: of all records, for the last line.
    """
    cells = [[cut(on_one_line(cell), _MAX_CHARACTERS) for cell in row] for row in (HEADS, *rows_of(first))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    if number > len(first):
        lines.append(f"… and {counted(number - len(first), 'more record')}")
    return "\n".join(lines)


def _shown(value: Any) -> Any:
    """Return a value as a summary has it, which is stored in Airflow's database."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return cut(_text(value), _MAX_CHARACTERS_OF_VALUE)


def _text(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else encode_json(value).decode()
