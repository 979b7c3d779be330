"""
Failed and refused records, as lines of ``failures.jsonl``: readable by a person, and by ``path=``.

A line is the record with one more member, ``_failure``::

    {"source_id": "c1", "name": "Ann", "_failure": {"form": "record", "outcome": "failed", "key": "invalid_payload", …}}

``form`` is ``record`` where the other members are the record as it was sent, and ``row`` where they are the source's
columns (a refused row): reading the file again applies the mapping to rows and not to records. Columns whose values
have no JSON form (NaN, say) are shown as text and named in ``as_text``: they are refused again until they are mended
and no longer named there, so that the text is never sent for the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cache
from types import GenericAlias
from typing import IO, Any, Literal

import msgspec

from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.sync.sources import FAILURE_MEMBER, LOST_MEMBER
from airflow_provider_voucherify.sync.unnamed_database import UnnamedDatabase
from airflow_provider_voucherify.sync.values import has_json_form, json_safe, json_safe_text

MAX_TEXT = 500
"""Characters of a message that are kept: an error text of any size must not swell logs or XComs."""

MOST_HISTORY = 10
"""Earlier failures that a line remembers."""

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=json_safe_text).encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One record that was not updated, and why.

    :param outcome: ``failed`` at Voucherify or ``refused`` before sending.
    :param id: the record's ``source_id`` or ``code``; None where it has none, or the API does not name it.
    :param key: kind of the reason: the API's error key, or one of ours (see ``mapping.RefusedRowError``).
    :param row: the row's place in the source, from 1; only of rows that were not sent.
    :param hint: another column of a row that has no id, and its value, to find it by.
    """

    outcome: Literal["failed", "refused", "superseded"]
    id: str | None
    key: str | None
    message: str | None
    details: str | None = None
    async_action_id: str | None = None
    row: int | None = None
    hint: str | None = None

    def sample(self) -> dict[str, Any]:
        """Return what a summary shows of the failure."""
        shown = {name: shortened(getattr(self, name)) for name in ("id", "key", "message", "details", "hint")}
        return {"outcome": self.outcome, "row": self.row, **shown}


def shortened(text: str | None) -> str | None:
    """Return at most ``MAX_TEXT`` characters of a text, on one line, without control characters."""
    if text is None:
        return None
    line = "".join(c if c.isprintable() else " " for c in json_safe_text(text[: MAX_TEXT + 1]))
    return line if len(text) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


@dataclass(frozen=True, slots=True)
class Attempts:
    """
    How often Voucherify has not accepted a record, in this sync and in earlier ones.

    :param number: how often; that an action failed as a whole does not count.
    :param at: when the record failed, or its row was refused, last, Unix epoch seconds; 0 where that is not known.
    :param history: the last of the failures, oldest first.
    """

    number: int
    at: float
    history: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Attempts:
        """
        Read the ``_failure`` of a line, which is itself the last failure of its history.

        It may come from a person's hand; one that does not say how often the record failed stands for one failure.
        """
        number, at, history = told.get("attempts"), told.get("at"), told.get("history")
        earlier = [item for item in history if isinstance(item, Mapping)] if isinstance(history, list) else []
        this = {name: told[name] for name in ("at", "key", "message", "details", "async_action_id") if name in told}
        return cls(
            number if type(number) is int and number >= 0 else 1,
            float(at) if isinstance(at, int | float | Decimal) and not isinstance(at, bool) else 0.0,
            (*earlier, this)[-MOST_HISTORY:],
        )

    def again(self, at: float, *, counts: bool = True) -> Attempts:
        """Add one more failure, whose reason the line itself says."""
        return Attempts(self.number + counts, at, self.history)


def failure_line(
    failure: Failure,
    form: Literal["record", "row", "id"],
    content: Mapping[str, Any],
    attempts: Attempts | None = None,
    *,
    at: float | None = None,
) -> bytes:
    """
    Encode one line of ``failures.jsonl``.

    :param form: what ``content`` is: the record as sent, the source's row, or nothing but a record's id.
    :param attempts: how often Voucherify has not accepted the record.
    :param at: when the row was refused, which Voucherify has never seen; Unix epoch seconds.
    """
    told = {name: value for name, value in asdict(failure).items() if value is not None and name != "hint"}
    if at is not None:
        told["at"] = round(at, 3)
    if attempts is not None:
        told |= {"attempts": attempts.number, "at": round(attempts.at, 3), "history": list(attempts.history)}
    for name in ("message", "details"):
        if name in told:
            told[name] = shortened(told[name])
    line = {json_safe_text(name): json_safe(value) for name, value in content.items()}
    if lost := [json_safe_text(name) for name, value in content.items() if not has_json_form(value)]:
        told[LOST_MEMBER] = lost
    line[FAILURE_MEMBER] = {"form": form, **told}
    return _encode(line) + b"\n"


class EarlierFailures:
    """
    What a ``failures.jsonl`` says of records that are sent again, by id: on local disk, since it may be long.

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
        encoded = ((record_id, _encode(told)) for record_id, told in failures)
        database.db.executemany("insert or replace into failures values (?, ?)", encoded)

    def find(self, record_id: str) -> Attempts:
        """Return how often an id's record has failed; no attempts where it is not known."""
        found = None
        if self._database is not None:
            found = self._database.db.execute("select told from failures where id = ?", (record_id,)).fetchone()
        return Attempts(0, 0.0) if found is None else Attempts.read(_decode(found[0]))

    def save(self, file: IO[bytes]) -> None:
        """Write what is remembered into a file."""
        if self._database is not None:
            self._database.db.execute("commit")
            self._database.copy("main", file)
            self._database.db.execute("begin")

    def close(self) -> None:
        """Give the disk space back."""
        if self._database is not None:
            self._database.close()

    def _open(self, content: IO[bytes] | None) -> UnnamedDatabase:
        self._database = UnnamedDatabase(content)
        db = self._database.db
        db.execute("create table if not exists failures(id text primary key, told blob not null) without rowid")
        db.execute("begin")
        return self._database


def ids_of(body: bytes, endpoint: BulkEndpoint) -> list[str]:
    """Read the ids back from the body of a batch."""
    if endpoint.ids_field is not None:
        ids: list[str] = msgspec.json.decode(body, type=_only_ids(endpoint.ids_field)).ids
        return ids
    return [record.id for record in msgspec.json.decode(body, type=GenericAlias(list, (_only_id(endpoint.key),)))]


@cache
def _only_id(key: str) -> Any:
    return msgspec.defstruct("only_id", [("id", str)], rename={"id": key}, gc=False)


@cache
def _only_ids(ids_field: str) -> Any:
    return msgspec.defstruct("only_ids", [("ids", list[str])], rename={"ids": ids_field}, gc=False)


def records_of(body: bytes, endpoint: BulkEndpoint) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Read the records back from the body of a batch: (id, record) pairs.

    :param body: what was sent to the endpoint; a list of ids with one metadata object gives one record per id.
    """
    if endpoint.ids_field is None:
        for raw in msgspec.json.decode(body, type=list[msgspec.Raw]):
            record = _decode(raw)
            yield record[endpoint.key], record
    else:
        sent = _decode(body)
        for record_id in sent[endpoint.ids_field]:
            yield record_id, {endpoint.key: record_id, "metadata": sent["metadata"]}
