"""Which column of an export has which field, whatever way of naming them Voucherify follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from airflow_provider_voucherify.models.exported_objects import letters_of

Path = tuple[str, ...]
"""Where a value is in a record: ``("name",)``, ``("address", "city")``, ``("metadata", "segment")``."""

METADATA: Path = ("metadata",)
ADDRESS: Path = ("address",)


_MEMBERS_OF_ADDRESS = ("city", "state", "line_1", "line_2", "country", "postal_code")


def compared_paths(paths: Iterable[Path]) -> list[Path]:
    """Return what an export is asked for: the members of an address one by one, and of metadata all or some."""
    every = dict.fromkeys(paths)
    whole = METADATA in every
    return [
        part
        for path in every
        if not (whole and path[0] == "metadata" and path != METADATA)
        for part in ([(*ADDRESS, name) for name in _MEMBERS_OF_ADDRESS] if path == ADDRESS else [path])
    ]


def exported_field(path: Path) -> str:
    """Return the name of a field for ``fields`` of an export: ``name``, ``address_city``, ``metadata.segment``."""
    return "_".join(path) if path[0] == "address" else ".".join(path)


@dataclass(frozen=True)
class ExportColumns:
    """
    The places of fields in the lines of an export.

    The vendor does not say how columns are called: as in the request, or by titles (``Source ID``), those of metadata
    with or without ``metadata.`` before their names.

    :param key: of the column that identifies a record; None if there is none.
    :param places: of each path, None where there is no column, or more than one.
    :param members: of metadata's columns by the member's name, where the whole object was asked for.
    :param all_metadata: of the column that has all metadata as JSON, where no member has a column of its own.
    """

    key: int | None
    places: tuple[int | None, ...]
    members: dict[str, int] = field(default_factory=dict)
    all_metadata: int | None = None

    @classmethod
    def of(
        cls, header: Sequence[str], key: str, paths: Sequence[Path], *, asked_for_all_metadata: bool = False
    ) -> ExportColumns:
        """
        Find the columns.

        :param header: the first line.
        :param key: ``source_id`` or ``code``.
        :param paths: of the fields that are compared.
        :param asked_for_all_metadata: whether the export was asked for all of it, and not for single members.
        """
        names = [letters_of(name) for name in header]
        fields = [path for path in paths if path[0] != "metadata"]
        taken = {_place(names, letters_of(key)), *(_place(names, letters_of(exported_field(path))) for path in fields)}
        rest = ["" if place in taken else name for place, name in enumerate(header)]
        members, all_metadata = {}, None
        if asked_for_all_metadata and [letters_of(name) for name in rest if name] == ["metadata"]:
            all_metadata = next(place for place, name in enumerate(rest) if name)
        elif METADATA in paths:
            members = {_member(name): place for place, name in enumerate(rest) if name}
        places = (
            _place_of_member(path, rest) if path[0] == "metadata" else _place(names, letters_of(exported_field(path)))
            for path in paths
        )
        return cls(_place(names, letters_of(key)), tuple(places), members, all_metadata)

    def metadata_in(self, line: Sequence[str]) -> dict[str, str] | None:
        """Return the cells of all members of metadata that a line has a value of; None if they cannot be read."""
        if self.all_metadata is not None:
            members = _members_of(line[self.all_metadata])
        else:
            members = {name: line[place] for name, place in self.members.items()}
        return None if members is None else {name: text for name, text in members.items() if text}


def _members_of(cell: str) -> dict[str, str] | None:
    """Return the members of all metadata in one cell, each as a cell of its own would have it; None if not JSON."""
    try:
        members = msgspec.json.decode(cell or "{}", type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return None
    texts = {name: bytes(raw).decode() for name, raw in members.items()}
    return {
        name: msgspec.json.decode(text) if text.startswith('"') else "" if text == "null" else text
        for name, text in texts.items()
    }


def _place(names: Sequence[str], name: str) -> int | None:
    places = [place for place, one in enumerate(names) if one == name]
    return places[0] if len(places) == 1 else None


def _place_of_member(path: Path, header: Sequence[str]) -> int | None:
    """Return the column of a member of metadata: by its name if there is one of that name, else by the like of it."""
    exact = _place([_member(name) for name in header], path[-1])
    return exact if exact is not None else _place([letters_of(_member(name)) for name in header], letters_of(path[-1]))


def _member(column: str) -> str:
    return column[len("metadata.") :] if column.lower().startswith("metadata.") else column
