"""What the page of questions to the history answers is what the history of its week answers, in each database."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.history.databases import HistoryDatabase
from harness.history.page import PAGE, Answer, answered, with_sizes
from harness.history.runners import QuickRunner

TEXT = """
Text.

```sql
-- SQLite
SELECT 1
```

```sql
-- PostgreSQL
SELECT 2
```

| old |
| --- |
| 9 |

More text.

| database | MB |
|---|---|
| SQLite | 8 |
| PostgreSQL | 9 |

The end.
"""


@pytest.fixture(params=["SQLite", "PostgreSQL", "MariaDB"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> HistoryDatabase:
    if request.param == "SQLite":
        return HistoryDatabase.sqlite(tmp_path)
    return HistoryDatabase(request.param, request.getfixturevalue(request.param.lower().removesuffix("ql")))


@pytest.mark.needs_airflow("3.3", "a retry goes on by the task state store")
def test_the_answers_are_those_of_the_page(database: HistoryDatabase, tmp_path: Path) -> None:
    """MySQL and MariaDB have a form of their own for what is in JSON, which the page names."""
    text = PAGE.read_text(encoding="utf-8")
    form = "SQLite" if database.name == "MariaDB" else database.name
    asked: list[str] = []

    def run(sql: str) -> Answer | None:
        asked.append(sql)
        return database.run(sql.replace("json_extract(", "json_value(") if database.name == "MariaDB" else sql)

    database.play(tmp_path, QuickRunner())

    assert answered(text, form, run) == text
    assert len(asked) == text.count("```sql") - 2 > 14


def test_an_answer_takes_the_place_of_the_one_before_and_of_nothing_else() -> None:
    def run(sql: str) -> Answer:
        return ["one", "two"], [("a|b", None), (sql.splitlines()[-1], "http://127.0.0.1:123/v1")]

    after = answered(TEXT, "PostgreSQL", run)

    table = "| one | two |\n| --- | --- |\n| a\\|b |  |\n| SELECT 2 | http://127.0.0.1/v1 |\n"
    assert after == TEXT.replace("| old |\n| --- |\n| 9 |\n", table)
    assert answered(after, "PostgreSQL", run) == after


def test_sizes_of_databases_that_are_not_measured_stay() -> None:
    assert with_sizes(TEXT, {"PostgreSQL": ["10"]}) == TEXT.replace("| PostgreSQL | 9 |", "| PostgreSQL | 10 |")
