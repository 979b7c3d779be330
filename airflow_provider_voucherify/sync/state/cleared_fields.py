"""Which fields of a record Voucherify has, and which of them the source no longer has: of every content of a record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.ledger_database import LedgerDatabase
from airflow_provider_voucherify.sync.state.record_state import NotCleared

_decode = msgspec.json.Decoder().decode


class ClearedFields:
    """Compares the fields that the records of a sync have with those that Voucherify may have had before."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._db = database.db

    def note_targets(self, targets: Iterable[tuple[str, str, bool]]) -> None:
        """
        Write down what the source has columns for.

        :param targets: path of a field, name of its column, and whether its ``null_policy`` is ``send``.
        """
        self._db.executemany("insert or ignore into targets values (?, ?, ?)", targets)

    def contents(
        self, items: Sequence[bytes], places: Iterable[int], fields_key: Callable[[int], Hashable] | None = None
    ) -> Sequence[int | None]:
        """
        Return the numbers of what the items at some places have for fields; an item that is a bare id has none.

        :param fields_key: gives, for the place of an item, a key that items share if they have the same fields.
        """
        number = self._database.numbers("contents")
        known: dict[Hashable, int | None] = {}
        numbers: list[int | None] = []
        for place in places:
            key = items[place] if fields_key is None else fields_key(place)
            if key not in known:
                record = _decode(items[place])
                known[key] = number(json.dumps(_fields_of(record))) if type(record) is dict else None
            numbers.append(known[key])
        return numbers

    def compare(self) -> None:
        """Find out which fields Voucherify has, for each content of a record and all that it may have had before."""
        self._db.execute("delete from clearing")
        columns = self._columns()
        number = self._database.numbers("fields")

        def kept(paths: Iterable[str]) -> int | None:
            names = sorted(paths)
            return number(json.dumps(names)) if names else None

        for had_number, content in self._db.execute(sql.FIND_CONTENTS):
            (fields,) = self._db.execute("select name from contents where number = ?", (content,)).fetchone()
            present, nulls = map(frozenset, json.loads(fields))
            names = self._db.execute("select name from earlier.fields where number = ?", (had_number,)).fetchone()
            had = frozenset(json.loads(names[0])) if names else frozenset()
            stay = {p for p in had - present - nulls if p.partition(".")[0] not in nulls and _is_of(p, columns)}
            row = (content, had_number, kept(present | stay), kept(stay), kept(had | present), kept(present))
            self._db.execute("insert into clearing values (?, ?, ?, ?, ?, ?)", row)

    def not_cleared(self) -> NotCleared:
        """
        Say which values Voucherify still has although the source no longer has them.

        These are values of records that this sync has sent and Voucherify has confirmed, or that were not sent because
        they are as they were.
        """
        self.compare()
        columns = self._columns()
        records: Counter[str] = Counter()
        for names, number in self._db.execute(sql.NOT_CLEARED):
            records.update(dict.fromkeys((path for path in json.loads(names) if _is_of(path, columns)), number))
        names = {path: _column(path, columns) for path in records}
        null = {name for (name,) in self._db.execute("select column_name from targets where sends_null")}
        return NotCleared(dict(records.most_common()), names, null)

    def _columns(self) -> dict[str, str]:
        return dict(self._db.execute("select path, column_name from targets"))


def _fields_of(record: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths of the fields of which a record has a value, and of those that are null, but for the key."""
    present: list[str] = []
    nulls: list[str] = []
    for name, value in islice(record.items(), 1, None):
        if type(value) is dict:
            for member, inner in value.items():
                (nulls if inner is None else present).append(f"{name}.{member}")
        else:
            (nulls if value is None else present).append(name)
    return tuple(present), tuple(nulls)


def _is_of(path: str, columns: Mapping[str, str]) -> bool:
    """Say whether the source has a column for a field: if it no longer has one, the field is not its concern."""
    return path in columns or path.partition(".")[0] in columns


def _column(path: str, columns: Mapping[str, str]) -> str:
    return columns.get(path) or columns[path.partition(".")[0]]
