"""
Failed and refused records, as lines of ``failures.jsonl``: readable by a person, and by ``path=``.

A line is the record with one more member, ``_failure``::

    {"source_id": "c1", "name": "Ann", "_failure": {"form": "record", "outcome": "failed", "key": "invalid_payload", …}}

``form`` is ``record`` if the other members are the record as it was sent, and ``row`` if they are the source's
columns (a refused row): reading the file again applies the mapping to rows and not to records. Columns whose values
have no JSON form (such as NaN) are shown as text and named in ``as_text``: they are refused again until they are fixed
and no longer named there, so that the text is never sent instead of the value. ``form`` is ``id`` if only the
record's id is known, and ``hidden`` if ``hide_values`` has left out what was sent: neither can be sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import IO, Any, Literal

import msgspec

from airflow_provider_voucherify.sync.rows.values import has_json_form, json_safe
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import MAX_ATTEMPTS
from airflow_provider_voucherify.sync.types.text import counted, json_safe_text, shortened
from airflow_provider_voucherify.sync.types.unnamed_database import UnnamedDatabase

FAILURE_FILES = frozenset({"failures.jsonl", "set_aside.jsonl"})
"""Names of the files whose lines are failed records. Nothing in a row can make it count as one."""

FAILURE_MEMBER = "_failure"
"""Member of a line that says why the record was not updated; never sent."""

LOST_MEMBER = "as_text"
"""Member of ``_failure`` that names the columns whose values the file can only show as text."""

Form = Literal["record", "row", "id", "hidden"]

MAX_HISTORY = 10
"""Maximum number of earlier failures that a line keeps."""

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=json_safe_text).encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Attempts:
    """
    How often Voucherify has not accepted a record, in this sync and in earlier ones.

    :param number: number of times; actions that failed as a whole do not count.
    :param at: when the record last failed, or its row was last refused, Unix epoch seconds; 0 if unknown.
    :param history: the last of the failures, oldest first.
    """

    number: int
    at: float
    history: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, failure: Mapping[str, Any]) -> Attempts:
        """
        Read the ``_failure`` of a line, itself the last failure of its history unless the record was set aside.

        It may have been written by hand; a line that does not say how often the record failed counts as one failure.
        """
        number, at, history = failure.get("attempts"), failure.get("at"), failure.get("history")
        earlier = [item for item in history if isinstance(item, Mapping)] if isinstance(history, list) else []
        this = {
            name: failure[name] for name in ("at", "key", "message", "details", "async_action_id") if name in failure
        }
        return cls(
            number if type(number) is int and number >= 0 else 1,
            float(at) if isinstance(at, int | float | Decimal) and not isinstance(at, bool) else 0.0,
            tuple(earlier if failure.get("key") == MAX_ATTEMPTS else [*earlier, this])[-MAX_HISTORY:],
        )

    @property
    def why_set_aside(self) -> str:
        """Why the record is not sent again, with what Voucherify said the last time."""
        last = self.history[-1] if self.history else {}
        reason = last.get("message") or last.get("key") or "no reason given"
        return f"failed {counted(self.number, 'time')} and is not sent again; the last time: {reason}"

    def again(self, at: float, *, counts: bool = True) -> Attempts:
        """Add one more failure, whose reason is in the line itself."""
        return Attempts(self.number + counts, at, self.history)


def failure_line(
    failure: Failure,
    form: Form,
    content: Mapping[str, Any],
    attempts: Attempts | None = None,
    *,
    at: float | None = None,
) -> bytes:
    """
    Encode one line of ``failures.jsonl``.

    :param form: what ``content`` is: the record as sent, the source's row, only a record's id, or nothing at all.
    :param attempts: how often Voucherify has not accepted the record.
    :param at: when a row was refused that Voucherify has never seen; Unix epoch seconds.
    """
    reason = {name: value for name, value in asdict(failure).items() if value is not None and name != "hint"}
    if at is not None:
        reason["at"] = round(at, 3)
    if attempts is not None:
        reason |= {"attempts": attempts.number, "history": list(attempts.history)}
        if attempts.at:
            reason["at"] = round(attempts.at, 3)
    for name in ("message", "details"):
        if name in reason:
            reason[name] = shortened(reason[name])
    line = {json_safe_text(name): json_safe(value) for name, value in content.items()}
    if lost := [json_safe_text(name) for name, value in content.items() if not has_json_form(value)]:
        reason[LOST_MEMBER] = lost
    line[FAILURE_MEMBER] = {"form": form, **reason}
    return _encode(line) + b"\n"


class EarlierFailures:
    """
    What a ``failures.jsonl`` says about records that are sent again, by id; on local disk, since it may be long.

    :param content: what ``save`` wrote; None starts with nothing.
    """

    def __init__(self, content: IO[bytes] | None = None) -> None:
        self._database: UnnamedDatabase | None = None
        if content is not None:
            self._open(content)

    def __bool__(self) -> bool:
        return self._database is not None

    def add(self, failures: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Remember failures; a later one of the same id counts."""
        database = self._database or self._open(None)
        encoded = ((record_id, _encode(failure)) for record_id, failure in failures)
        database.db.executemany("insert or replace into failures values (?, ?)", encoded)

    def find(self, record_id: str) -> Attempts:
        """Return how often an id's record has failed; no attempts if it is unknown."""
        row = None
        if self._database is not None:
            row = self._database.db.execute("select told from failures where id = ?", (record_id,)).fetchone()
        return Attempts(0, 0.0) if row is None else Attempts.read(_decode(row[0]))

    def save(self, file: IO[bytes]) -> None:
        """Write the attempts into a file."""
        if self._database is not None:
            self._database.db.execute("commit")
            self._database.copy("main", file)
            self._database.db.execute("begin")

    def close(self) -> None:
        """Free the disk space."""
        if self._database is not None:
            self._database.close()

    def _open(self, content: IO[bytes] | None) -> UnnamedDatabase:
        self._database = UnnamedDatabase(content)
        db = self._database.db
        db.execute("create table if not exists failures(id text primary key, told blob not null) without rowid")
        db.execute("begin")
        return self._database
