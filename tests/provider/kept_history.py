"""What is kept of a sync, out of tables or a folder: its runs, the lines of its changelog, and the state of records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import BaseHook

Row = dict[str, Any]

_COLUMNS_OF_FILES = {"row": "source_row", "id": "record_id", "key": "reason_key"}
_STATE_OF_FILE = """
select s.id record_id, digest, outcome, attempts, confirmed_at / 1000.0 confirmed_at,
    failing_since / 1000.0 failing_since, c.content
from state s left join confirmed c using (id)
"""


@dataclass(frozen=True)
class Kept:
    """
    What is kept at one moment.

    :param runs: the rows of the runs, by ``try_id``.
    :param lines: of the changelog, by the try and their place in it.
    :param states: of records, by id.
    :param files: of the history in a folder, by their names.
    """

    runs: Mapping[str, Row]
    lines: Mapping[tuple[str, int], Row]
    states: Mapping[str, Row]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def lines_of(self, try_id: str) -> list[Row]:
        return [line for (of_try, _), line in self.lines.items() if of_try == try_id]


class Tables:
    """The tables of a ``state`` in a database."""

    def __init__(self, conn_id: str, table: str) -> None:
        self.state = {"conn_id": conn_id, "table": table}
        self._conn_id, self._table = conn_id, table

    def read(self) -> Kept:
        runs = {row["try_id"]: row for row in self._select("runs", "started_at, try_number")}
        lines = {
            (row["try_id"], int(row["entry_number"])): row for row in self._select("changelog", "try_id, entry_number")
        }
        states = {row["record_id"]: row for row in self._select("state", "record_id")}
        return Kept(runs, lines, states)

    def forget_state(self) -> None:
        self._execute(f"DELETE FROM {self._table}_state")

    def _select(self, name: str, order: str) -> list[Row]:
        return self._execute(f"SELECT * FROM {self._table}_{name} ORDER BY {order}")

    def _execute(self, statement: str) -> list[Row]:
        with closing(BaseHook.get_hook(self._conn_id).get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(statement)
            if statement.startswith("DELETE"):
                connection.commit()
                return []
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class Folder:
    """The folder of a ``state``, with outcomes."""

    def __init__(self, place: Path) -> None:
        self.state = {"path": str(place), "outcomes": "jsonl"}
        self._place = place

    def read(self) -> Kept:
        history = [path for name in ("runs", "outcomes") for path in self._place.rglob(f"{name}/*/*")]
        files = {str(path.relative_to(self._place)): path.read_bytes() for path in history}
        runs: dict[str, Row] = {}
        for name, content in sorted(files.items(), key=lambda file: ".running." not in file[0]):
            if "/runs/" in name:
                row = json.loads(content)
                assert name.endswith(f"/try={row['try_number']}.{row['try_id'][:8]}.{row['status']}.json")
                assert unquote(name.split("/")[-2]) == row["run_id"]
                runs[row["try_id"]] = row
        lines = {}
        for name, content in files.items():
            if "/outcomes/" in name:
                (try_id,) = (one for one in runs if one.startswith(name.split(".")[-2]))
                for number, line in enumerate(content.splitlines(), start=1):
                    row = {_COLUMNS_OF_FILES.get(column, column): value for column, value in json.loads(line).items()}
                    lines[try_id, number] = {"try_id": try_id, **row}
        in_order = sorted(runs.values(), key=lambda row: (row["started_at"], row["try_number"]))
        return Kept({row["try_id"]: row for row in in_order}, lines, self._states(), files)

    def forget_state(self) -> None:
        self._file().unlink()

    def _file(self) -> Path:
        (file,) = self._place.rglob("state")
        return file

    def _states(self) -> dict[str, Row]:
        if not list(self._place.rglob("state")):
            return {}
        with closing(sqlite3.connect(":memory:")) as database:
            database.row_factory = sqlite3.Row
            database.deserialize(self._file().read_bytes().partition(b"\n")[2])
            return {row["record_id"]: dict(row) for row in database.execute(_STATE_OF_FILE)}


def moment(value: Any) -> float | None:
    """Return a time of the history or the state, in Unix epoch seconds."""
    if value is None or isinstance(value, float):
        return value
    told = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (told if told.tzinfo is not None else told.replace(tzinfo=UTC)).timestamp()
