"""The records that Voucherify has, as an export shows them, on disk; and how those that are sent compare with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import IO, Any, Literal, Self

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyExportError
from airflow_provider_voucherify.sync.comparison.expected_items import ExpectedItems
from airflow_provider_voucherify.sync.comparison.export_columns import (
    METADATA,
    ExportColumns,
    Path,
    compared_paths,
    exported_field,
)
from airflow_provider_voucherify.sync.comparison.values import is_same
from airflow_provider_voucherify.sync.rows.exported_rows import ExportedRows
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.sync.types.unnamed_database import UnnamedDatabase

Comparison = Literal["same", "different", "absent"]
"""What a record is beside that which Voucherify has of it; absent, if Voucherify has none."""

_KIBIBYTES_OF_CACHE = 16_384
_MAX_REMEMBERED = 1_000_000
"""How many records are compared in memory, which takes about 90 MB; the others are compared on disk."""

_MAX_KNOWN_IDS = 100_000
"""With at most that many records on disk, the hashes of their ids are in memory: others are not looked up on disk."""

_CREATE = "create table found(id text not null, expected integer not null, cells text not null)"
_ONLY_LAST = "delete from found where rowid not in (select max(rowid) from found group by id)"
_FIND_EXPECTED = "select json_group_array(f.expected) from json_each(?) j left join found f on f.id = j.value"
_FIND = "select json_group_array(f.cells) from json_each(?) j left join found f on f.id = j.value"
_NOT_AMONG = "select id from found where id not in (select id from present) order by id"

_encode_lines = msgspec.json.Encoder().encode_lines
_decode_cells = msgspec.json.Decoder(list[str | dict[str, str] | None]).decode
_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Difference:
    """
    A field that differs.

    :param field: its name, e.g. ``metadata.segment``.
    :param sent: what the source has.
    :param found: what Voucherify has, as text; None if the export does not tell.
    """

    field: str
    sent: Any
    found: str | None


class FoundRecords:
    """
    What Voucherify has of one resource. A context manager; closing it frees the disk.

    Memory grows with the first million records that are expected, and no further. One without the key (a customer
    without ``source_id``) can be in no source.

    :param key: ``source_id`` or ``code``.
    :param paths: of the fields that are compared, in the order that items have them; none if only the ids matter.
    :param samples: some of the items that will be compared.
    :ivar untold: fields that the export has no column for, or several: all records that have them are different.
    """

    def __init__(self, key: str, paths: Iterable[Path], samples: Iterable[bytes] = ()) -> None:
        self._key = key
        self._paths = compared_paths(paths)
        self._expected = ExpectedItems(key, self._paths, samples)
        self._database = UnnamedDatabase()
        self._db = self._database.db
        self._db.execute(f"pragma cache_size = -{_KIBIBYTES_OF_CACHE}")
        self._db.execute(_CREATE)
        self._db.execute("create table present(id text primary key) without rowid")
        self._asks_for_all_metadata = False
        self._is_found: dict[int, bool] = {}
        self._number_as_expected = 0
        self._ids_on_disk: set[int] | None = set()
        self._twice: set[str] = set()
        self._number_on_disk = 0
        self.untold: list[str] = []

    @property
    def fields(self) -> list[str]:
        """The fields that an export has to have, the key first."""
        fields = [exported_field(path) for path in self._paths]
        if self._asks_for_all_metadata:
            fields = [field.partition(".")[0] for field in fields]
        return list(dict.fromkeys([self._key, *fields]))

    def ask_for_all_metadata(self) -> bool:
        """Let ``fields`` have all metadata instead of single members of it; say whether that makes a difference."""
        before = self.fields
        self._asks_for_all_metadata = True
        return self.fields != before

    @property
    def number(self) -> int:
        """How many there are."""
        return self._number_as_expected + self._number_on_disk - len(self._twice)

    def expect(self, items: Iterable[bytes]) -> None:
        """
        Remember, before ``read``, what will be compared: a record that is exported as it is here is not kept on disk.

        :param items: the JSON of records, of each id one.
        """
        self._is_found = dict.fromkeys(map(hash, islice(items, _MAX_REMEMBERED)), False)

    def read(self, file: IO[bytes]) -> None:
        """
        Read an export.

        :param file: CSV in UTF-8 with a header, or nothing at all; seekable.
        :raises VoucherifyExportError: it is not, or has no column for the key.
        """
        file.seek(0)
        rows = ExportedRows(file, self.fields)
        if rows.header is None:
            return
        asked_for_all = self._asks_for_all_metadata or METADATA in self._paths
        columns = ExportColumns.of(rows.header, self._key, self._paths, asked_for_all_metadata=asked_for_all)
        if columns.key is None:
            all_of_them = counted(len(rows.header), "column")
            raise VoucherifyExportError(f"the export has no column {self._key} among its {all_of_them}")
        self.untold = [
            exported_field(path)
            for path, place in zip(self._paths, columns.places, strict=True)
            if place is None and self._is_untold(path)
        ]
        self._db.execute("begin")
        for some in rows.chunks():
            self._insert(some, columns)
        self._db.execute("create index of_found on found(id, expected)")
        self._db.execute("commit")
        twice = "select exists (select 1 from found group by id having count(*) > 1)"
        if self._db.execute(twice).fetchone()[0]:
            self._db.execute(_ONLY_LAST)
        self._number_on_disk = int(self._db.execute("select count(*) from found").fetchone()[0])
        self._ids_on_disk = None
        if self._number_on_disk <= _MAX_KNOWN_IDS:
            self._ids_on_disk = {hash(record_id) for (record_id,) in self._db.execute("select id from found")}

    def compare(self, ids: Sequence[str], items: Sequence[bytes]) -> list[Comparison]:
        """
        Say of some records, by their ids, what they are beside those that Voucherify has.

        A record that an export has twice is the same only if both of its lines are: in doubt it is sent.

        :param items: the JSON of each record that is sent.
        """
        comparisons: list[Comparison] = ["same"] * len(ids)
        same = [self._is_found.get(made, False) for made in map(hash, items)]
        known = self._ids_on_disk
        may_be_on_disk = [True] * len(ids) if known is None else list(map(known.__contains__, map(hash, ids)))
        if all(same) and not any(may_be_on_disk):
            return comparisons
        places = [place for place in range(len(ids)) if may_be_on_disk[place] or not same[place]]
        others = self._compare_with_disk([ids[place] for place in places], [items[place] for place in places])
        for place, comparison in zip(places, others, strict=True):
            if not same[place]:
                comparisons[place] = comparison
            elif comparison != "absent":
                self._twice.add(ids[place])
                comparisons[place] = comparison
        return comparisons

    def _compare_with_disk(self, ids: Sequence[str], items: Sequence[bytes]) -> list[Comparison]:
        encoded = msgspec.json.encode(ids).decode()
        expected: list[int | None] = msgspec.json.decode(self._db.execute(_FIND_EXPECTED, (encoded,)).fetchone()[0])
        comparisons: list[Comparison] = [
            "absent" if one is None else "same" if one == made else "different"
            for one, made in zip(expected, map(hash, items), strict=True)
        ]
        unlike = [place for place, comparison in enumerate(comparisons) if comparison == "different"]
        found = self._find([ids[place] for place in unlike])
        for place, record, cells in zip(unlike, decode_records([items[place] for place in unlike]), found, strict=True):
            if self._is_same(record, _decode_cells(cells or "[]")):
                comparisons[place] = "same"
        return comparisons

    def differences(self, record_id: str, item: bytes) -> list[Difference]:
        """Return the fields in which a record differs; all of those that it has, if Voucherify has no such record."""
        (record,) = decode_records([item])
        (cells,) = self._find([record_id])
        found = [None] * len(self._paths) if cells is None else _decode_cells(cells)
        return [
            Difference(".".join(path), sent, cell)
            for place, value in enumerate(found)
            for path, sent, cell in _leaves(self._paths[place], record, value)
            if not is_same(sent, cell)
        ]

    def note_present(self, ids: Sequence[str]) -> None:
        """Note that some ids are in the source, for ``others``."""
        encoded = msgspec.json.encode(ids).decode()
        self._db.execute("insert or ignore into present select value from json_each(?)", (encoded,))

    def others(self) -> Iterator[str]:
        """Give the ids of the records that are not in the source, as far as ``note_present`` knows it."""
        return (record_id for (record_id,) in self._db.execute(_NOT_AMONG))

    def close(self) -> None:
        """Give the disk space back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _insert(self, lines: Sequence[list[str]], columns: ExportColumns) -> None:
        key = itemgetter(columns.key)
        lines = list(filter(key, lines))
        ids, cells = list(map(key, lines)), list(map(self._cells(columns), lines))
        expected = list(map(hash, [b""] * len(ids) if self.untold else self._expected.of(ids, cells)))
        if same := self._is_found.keys() & expected:
            self._number_as_expected += sum(not self._is_found[made] for made in same)
            self._is_found.update(dict.fromkeys(same, True))
            unlike = [place for place, made in enumerate(expected) if made not in same]
            ids, cells = [ids[place] for place in unlike], [cells[place] for place in unlike]
            expected = [expected[place] for place in unlike]
        encoded = _encode_lines(cells).decode().split("\n")
        self._db.executemany("insert into found values (?, ?, ?)", zip(ids, expected, encoded, strict=False))

    def _cells(self, columns: ExportColumns) -> Callable[[Sequence[str]], Sequence[Any]]:
        """Return what takes the compared cells out of a line."""
        places = columns.places
        if len(places) > 1 and None not in places and columns.all_metadata is None:
            return itemgetter(*places)

        def cell(path: Path, place: int | None, line: Sequence[str], metadata: dict[str, str] | None) -> Any:
            if path == METADATA:
                return metadata
            if columns.all_metadata is not None and path[0] == "metadata":
                return None if metadata is None else metadata.get(path[1], "")
            if place is not None:
                return line[place]
            return None if self._is_untold(path) else ""

        def cells(line: Sequence[str]) -> Sequence[Any]:
            metadata = columns.metadata_in(line)
            return [cell(path, place, line, metadata) for path, place in zip(self._paths, places, strict=True)]

        return cells

    def _is_untold(self, path: Path) -> bool:
        """Say whether nobody knows a field without a column; of all metadata, what has no column nobody has."""
        return path != METADATA and not (self._asks_for_all_metadata and path[0] == "metadata")

    def _find(self, ids: Sequence[str]) -> list[str | None]:
        (found,) = self._db.execute(_FIND, (msgspec.json.encode(ids).decode(),)).fetchone()
        cells: list[str | None] = msgspec.json.decode(found)
        return cells

    def _is_same(self, record: Mapping[str, Any], cells: Sequence[Any]) -> bool:
        for (first, *rest), cell in zip(self._paths, cells, strict=True):
            if first not in record:
                continue
            value = record[first]
            if rest:
                if value is not None and rest[0] not in value:
                    continue
                value = value and value[rest[0]]
            if cell is None or (value != cell and not is_same(value, cell)):
                return False
        return True


def _leaves(path: Path, record: Mapping[str, Any], cell: Any) -> Iterator[tuple[Path, Any, Any]]:
    """Give what a record sends of a field, the members of a whole ``metadata`` one by one, beside what was found."""
    value: Any = record
    for name in path:
        if value is None:
            break
        if name not in value:
            return
        value = value[name]
    if path == METADATA:
        for name, member in (value or {}).items():
            yield (*path, name), member, None if cell is None else cell.get(name, "")
    else:
        yield path, value, cell


def decode_records(items: Sequence[bytes]) -> list[Any]:
    """Decode items; numbers stay exact."""
    decoded: list[Any] = _decode_exactly(b"[" + b",".join(items) + b"]")
    return decoded
