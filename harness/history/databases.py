"""The databases in which the week is kept and asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness.history.nights import TODAY, Runner, Week
from harness.history.page import Answer


class HistoryDatabase:
    """
    A database with the history of the week.

    :param name: ``SQLite``, ``PostgreSQL`` or ``MariaDB``.
    :param connection: Airflow's, as JSON.
    """

    def __init__(self, name: str, connection: str) -> None:
        self.name = name
        self._connection = connection

    @classmethod
    def sqlite(cls, folder: Path) -> HistoryDatabase:
        """Return one in a folder."""
        return cls("SQLite", json.dumps({"conn_type": "sqlite", "host": str(folder / "week.sqlite")}))

    def play(self, folder: Path, runner: Runner) -> None:
        """Let the week pass."""
        Week(folder, self._connection, self._execute, runner).play()

    def run(self, sql: str) -> Answer | None:
        """Execute a statement of the page on the last day of the week."""
        today = f"'{TODAY}'" if self.name == "SQLite" else f"DATE '{TODAY}'"
        return self._execute(re.sub(r"\bcurrent_date\b", today, sql))

    def _execute(self, sql: str) -> Answer | None:
        with self._cursor() as cursor:
            cursor.execute(sql)
            if cursor.description is None:
                return None
            return [column[0] for column in cursor.description], [tuple(row) for row in cursor.fetchall()]

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        from airflow.providers.common.compat.sdk import BaseHook

        with patch.dict("os.environ", {"AIRFLOW_CONN_HISTORY_OF_THE_WEEK": self._connection}):
            hook: Any = BaseHook.get_hook("history_of_the_week")
            with closing(hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
                if self.name == "PostgreSQL":
                    cursor.execute("SET TIME ZONE 'UTC'")
                yield cursor
                connection.commit()
