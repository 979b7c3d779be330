"""Which text the outcome tables keep, of whatever character set somebody has made them."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from typing import Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.schema import MAX_ID

_EVERYTHING = 0x10FFFF
_PROBES = (("顧客 Ω 𝄞", _EVERYTHING), ("顧客 Ω", 0xFFFF), ("é ß", 0xFF), ("c1", 0x7F))
"""Texts that a table may be able to keep, and up to which character it keeps all others then."""


class KeptText:
    """
    The characters that the outcome tables of a database keep: found out by writing a row and taking it back.

    :param table: the state's table, which stands for the others.
    """

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = table
        self._highest = _EVERYTHING
        self._is_known = False

    @property
    def is_everything(self) -> bool:
        """Whether every character is kept, as far as ``probe`` has found."""
        return self._highest == _EVERYTHING

    def probe(self) -> None:
        """
        Find out up to which character the table keeps text, once.

        :raises VoucherifyConfigurationError: it keeps none. Errors of the database are raised as they are.
        """
        if self._is_known:
            return
        refusal: Exception | None = None
        for text, self._highest in _PROBES:
            for _ in range(2):  # what is refused once may have been locked
                try:
                    if self._keeps(text):
                        self._is_known = True
                        return
                    break
                except Exception as error:
                    refusal = error
        if refusal is not None:
            raise refusal
        raise VoucherifyConfigurationError(f"the table {self._table} does not give back what is written to it")

    def has(self, record_id: str) -> bool:
        """Say whether an id (or a name) is kept as it is."""
        if len(record_id) > MAX_ID or "\0" in record_id:
            return False
        return self._highest == _EVERYTHING or ord(max(record_id, default=" ")) <= self._highest

    def cut(self, value: Any, characters: int) -> Any:
        """
        Return a value as its column takes it: a text is cut, and what the table does not keep of it is escaped.

        NUL, which PostgreSQL does not take, becomes a blank.
        """
        if value is None or not isinstance(value, str):
            return value
        text = value[:characters].replace("\0", " ")
        if text.isascii() or self.is_everything:
            return text
        return "".join(c if ord(c) <= self._highest else f"\\u{ord(c):04x}" for c in text)[:characters]

    def escaped_json(self, text: str) -> str:
        """Return a JSON text with what the table does not keep of it escaped as JSON has it."""
        if text.isascii() or self.is_everything:
            return text
        return "".join(c if ord(c) <= self._highest else json.dumps(c)[1:-1] for c in text)

    def advice(self) -> str:
        """Say what to do about a table that does not keep everything."""
        if self._database.kind == "mysql":
            return f"alter table {self._table} convert to character set utf8mb4, and charset in the connection's extra"
        return "make its columns nvarchar" if self._database.kind == "mssql" else "give it a character set of Unicode"

    def _keeps(self, text: str) -> bool:
        """Write a text into the table, read it, and take it back."""
        key = uuid.uuid4().hex
        row: dict[str, Any] = dict.fromkeys(("sync_name", "record_id", "message"), text)
        row |= dict.fromkeys(("sync_key", "resource", "settings", "outcome", "run_name"), "-")
        row |= {"record_key": key, "attempts": 0}
        where = f"where record_key = {self._database.mark}"
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            try:
                self._database.insert(cursor, self._table, row, [list(row.values())])
                cursor.execute(f"select sync_name, record_id, message from {self._table} {where}", [key])  # noqa: S608
                rows = [list(read) for read in cursor.fetchall()]
                cursor.execute(f"delete from {self._table} {where}", [key])  # noqa: S608
            finally:
                connection.rollback()
        return rows == [[text] * 3]
