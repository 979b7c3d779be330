"""The two SQLite files of a ledger, ``main`` and ``earlier``, and what all of its parts ask of them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import IO, Any, Literal

from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.record_state import StateColumns
from airflow_provider_voucherify.sync.types.unnamed_database import UnnamedDatabase

_MAX_REMEMBERED_NUMBERS = 1_000


@lru_cache(1_000)
def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


class Numbers(dict[str | None, int | None]):
    """
    The numbers of names, looked up once each; None has none.

    :param number: gives the number of a name.
    """

    def __init__(self, number: Callable[[str], int]) -> None:
        super().__init__({None: None})
        self._number = number

    def __missing__(self, name: str) -> int:
        if len(self) > _MAX_REMEMBERED_NUMBERS:
            self.clear()
            self[None] = None
        number = self[name] = self._number(name)
        return number


class LedgerDatabase:
    """
    Both files in one connection. All of a ledger's life is one transaction, since nobody else looks at them.

    :param ledger: what ``copy("main")`` gave; None for a new one.
    :param state: what ``copy("earlier")`` gave; None for an empty one.
    :ivar db: the connection.
    """

    def __init__(self, ledger: IO[bytes] | None = None, state: IO[bytes] | None = None) -> None:
        self._files = UnnamedDatabase(ledger)
        self.db = self._files.db
        self._files.attach("earlier", state)
        self.db.execute("begin")
        self._numbers_of_sync: dict[str, object] = {}
        if ledger is None:
            self.script(sql.SYNC)
        if state is None:
            self.script(sql.EARLIER)

    def find_sync(self, project: str) -> None:
        """
        Look up the run and the settings in the state, whose numbers for them are its own.

        :param project: what the settings of all syncs of the same project begin with.
        """
        self._numbers_of_sync = {
            "run": self.numbers("runs")(self.about("run")),
            "settings": self.numbers("settings")(self.about("settings")),
        }
        self.db.execute("delete from of_project")
        self.db.execute(sql.FIND_PROJECT, {"project": project})

    @property
    def names(self) -> dict[str, object]:
        """What the ledger's SQL calls by name."""
        return {**self._numbers_of_sync, "marks": bool(self.about("marks"))}

    def around(self, name: Literal["values", "mark"]) -> tuple[str, str] | None:
        """Return what stands around an item in the JSON that is kept of it; None if nothing is kept."""
        if not (noted := self.about(name)):
            return None
        begin, end = json.loads(noted)
        return begin, end

    def count_items(self) -> int:
        """Return how many items the source has had so far."""
        last = "select first + json_array_length(ids) from chunks order by first desc limit 1"
        return self.number(f"select coalesce(({last}), 0)")

    def load_state(self, states: Iterable[StateColumns]) -> None:
        """Take over the states of some records."""
        number = {name: Numbers(self.numbers(name)).__getitem__ for name in ("settings", "runs", "fields")}
        for ids, settings, digests, failed, attempts, outcomes, keys, messages, runs, at, fields, kept, since in states:
            columns = (
                *(ids, digests, map(number["settings"], settings), map(number["runs"], runs), failed, attempts),
                *(outcomes, keys, messages, map(_milliseconds, at)),
                *(map(number["fields"], fields), map(number["fields"], kept), map(_milliseconds, since)),
            )
            self.db.executemany(sql.LOAD_STATE, zip(*columns, strict=True))

    def use_state(self, file: IO[bytes]) -> None:
        """
        Take over a state.

        :raises ValueError: it is damaged; the state is empty then.
        """
        columns = self.db.execute("pragma earlier.table_info(state)").fetchall()
        self.db.execute("commit")
        try:
            self._files.attach("earlier", file)
            self.db.execute(
                "select 1 from earlier.state, earlier.runs, earlier.settings, earlier.fields, earlier.confirmed limit 1"
            ).fetchall()
            if columns != self.db.execute("pragma earlier.table_info(state)").fetchall():
                raise ValueError("it has other columns")
        except (sqlite3.Error, ValueError) as error:
            self._files.attach("earlier")
            self.db.execute("begin")
            self.script(sql.EARLIER)
            raise ValueError(str(error)) from error
        self.db.execute("begin")

    def forget_state(self) -> None:
        """Empty the state."""
        for table in ("state", "runs", "settings", "fields", "confirmed"):
            self.db.execute(f"delete from earlier.{table}")  # noqa: S608

    def script(self, statements: str) -> None:
        """Execute statements, separated by semicolons."""
        for statement in statements.split(";"):
            self.db.execute(statement)

    def number(self, query: str, values: Any = ()) -> int:
        """Return the number that a query gives."""
        (number,) = self.db.execute(query, values).fetchone()
        return int(number)

    def note(self, name: str, value: str) -> None:
        """Write down a fact about this sync."""
        self.db.execute("insert or replace into about values (?, ?)", (name, value))

    def about(self, name: str) -> str:
        """Return what ``note`` wrote down; an empty text if it has not."""
        row = self.db.execute("select value from about where name = ?", (name,)).fetchone()
        return str(row[0]) if row is not None else ""

    def numbers(self, table: Literal["runs", "settings", "fields", "contents"]) -> Callable[[str], int]:
        """Return a function that gives the number of what a table names, a new one if there is none."""
        schema = "main" if table == "contents" else "earlier"
        add = f"insert or ignore into {schema}.{table}(name) values (?)"  # noqa: S608
        find = f"select number from {schema}.{table} where name = ?"  # noqa: S608
        known: dict[str, int] = {}

        def number(name: str) -> int:
            if name not in known:
                if len(known) >= _MAX_REMEMBERED_NUMBERS:
                    known.clear()
                self.db.execute(add, (name,))
                known[name] = self.number(find, (name,))
            return known[name]

        return number

    def copy(self, name: Literal["main", "earlier"], to: IO[bytes]) -> None:
        """Write one of the files into another."""
        self.db.execute("commit")
        self._files.copy(name, to)
        self.db.execute("begin")

    def digest(self, name: Literal["main", "earlier"]) -> str:
        """Return the SHA-256 of what ``copy`` writes."""
        self.db.execute("commit")
        digest = hashlib.file_digest(self._files.content(name), "sha256").hexdigest()
        self.db.execute("begin")
        return digest

    def close(self) -> None:
        """Give the disk space back."""
        self._files.close()
