"""The file of an export: which objects, in which order, and as which lines of CSV. It is written while it is sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from airflow_provider_voucherify.local_voucherify.export_filters import filter_of
from airflow_provider_voucherify.local_voucherify.export_requests import METADATA, PREFIX, ExportRequest
from airflow_provider_voucherify.local_voucherify.export_values import Getter, Wire, getter_of, text_of, title_of
from airflow_provider_voucherify.local_voucherify.options import Options

_ROWS_PER_CHUNK = 2_000


class Objects(Protocol):
    """Objects by their key, in the order of creation."""

    def __iter__(self) -> Iterator[str]: ...
    def __reversed__(self) -> Iterator[str]: ...
    def __getitem__(self, key: str, /) -> Wire: ...
    def metadata_names(self) -> Collection[str]:
        """Return the names of the metadata of all objects."""


@dataclass(frozen=True, slots=True)
class AddedObjects:
    """Objects that a test has added, each a row with a value for each field, and a dict for ``metadata``."""

    rows: dict[str, Wire]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.rows)

    def __getitem__(self, key: str, /) -> Wire:
        return self.rows[key]

    def metadata_names(self) -> Collection[str]:
        """Return the names of the metadata of all objects."""
        return {name for row in self.rows.values() for name in row.get(METADATA) or ()}


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    get: Getter


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """
    One file.

    :param objects: as they were when the export was created.
    :param schema_names: the properties of the metadata schema of these objects.
    """

    request: ExportRequest
    objects: Objects
    schema_names: Collection[str]
    options: Options

    def chunks(self) -> Iterator[bytes]:
        """Yield the file, in memory that does not grow with it unless it is ordered by anything but its creation."""
        columns = [column for name in self.request.fields for column in self._columns(name)]
        getters = [column.get for column in columns]
        options = self.options
        yield _csv([[column.header for column in columns]])
        values = ([get(shown) for get in getters] for shown in self._selected())
        rows = ([one if type(one) is str else text_of(one, options) for one in row] for row in values)
        while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
            yield _csv(chunk)

    def _columns(self, name: str) -> Iterator[_Column]:
        exported = self.request.exported.name
        if name.startswith(PREFIX):
            yield self._metadata_column(name.removeprefix(PREFIX))
        elif name == METADATA and self.options.export_metadata_columns != "one":
            records = self.options.export_metadata_columns == "records"
            names = self.objects.metadata_names() if records else self.schema_names
            yield from map(self._metadata_column, sorted(names))
        else:
            header = name if self.options.export_header == "names" else title_of(name)
            yield _Column(header, getter_of(exported, name, self.options))

    def _metadata_column(self, name: str) -> _Column:
        header = PREFIX + name if self.options.export_metadata_names == "prefixed" else name
        return _Column(header, getter_of(self.request.exported.name, PREFIX + name, self.options))

    def _selected(self) -> Iterator[Wire]:
        fits = filter_of(self.request, self.options)
        for key in self._keys():
            shown = self.objects[key]
            if fits is None or fits(shown):
                yield shown

    def _keys(self) -> Iterable[str]:
        order = self.request.order or "created_at"
        field, descending = order.removeprefix("-"), order.startswith("-")
        if field == "created_at":
            return reversed(self.objects) if descending else self.objects
        value: Callable[[Wire], Any] = getter_of(self.request.exported.name, field, self.options)
        objects = self.objects
        return sorted(objects, key=lambda key: text_of(value(objects[key]), self.options), reverse=descending)


def _csv(rows: Iterable[Collection[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
