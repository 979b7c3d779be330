"""
The ledger of one sync: every row of the source with what became of it, and what is known of earlier syncs.

It is two SQLite files without a name on local disk, so nothing is left behind when the process is killed, memory does
not grow with the rows, and joining the plan, the answers and the state of earlier syncs is SQL. It is only kept where
outcomes are written down or only changes are sent: without it a sync counts, and with it it knows each row.

The first file is about this sync. Rows that are not sent, because Voucherify has confirmed them as they are, take next
to nothing there: a source of a million rows of which one in a hundred has changed is compared a thousand at a time.

The second file is the state: what the last sync of each id came to. Two rules keep it from ever saying more than is
known. The state has the digest of a record only while Voucherify's last answer about it was that it has it: any other
outcome takes the digest away, and so does the intention to send the record (``doubt``), before it is sent. And what a
run has written into the state itself does not count for that run: its retry plans the same batches again and finds
what the try before has sent in the journal, so that the outcomes are those of the run, whichever try writes them down.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import merge
from itertools import islice
from typing import IO, Any, Literal, Self

import msgspec

from airflow_provider_voucherify.sync.rows.failure_lines import Attempts
from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.record_state import NotCleared, RecordState
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import MAX_ATTEMPTS, RowOutcome, confirmed_by
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.text import json_safe_text, shortened
from airflow_provider_voucherify.sync.types.unnamed_database import UnnamedDatabase

PROJECT_CHARACTERS = 12
"""Of a digest of settings, those that only depend on the project."""

_ROWS_PER_WRITE = 1_000
_MOST_KNOWN = 1_000
_LONGS_PER_DIGEST = 8

_decode_lines = msgspec.json.Decoder().decode_lines


class Ledger:
    """
    The rows of one sync on disk. A context manager; closing it gives the disk space back.

    :param run: names the run, the same for all its tries.
    :param settings: digest of the settings under which records are made, of which the first ``PROJECT_CHARACTERS`` tell
        the project. What was confirmed under others counts for nothing, and only the same project's records can leave
        the source.
    :param everything: send records that are confirmed as they are, too.
    :param keeps_state: the state will be kept, so it has to know which fields each record had.
    """

    def __init__(self, run: str, settings: str, *, everything: bool = True, keeps_state: bool = False) -> None:
        self._open()
        self._items = 0
        self._script(sql.SYNC)
        self._note("run", run)
        self._note("settings", settings)
        self._note("everything", "yes" if everything else "")
        self._note("keeps state", "yes" if keeps_state else "")
        self._begin_state()

    @classmethod
    def restore(cls, ledger: IO[bytes], state: IO[bytes]) -> Self:
        """Open a ledger again that was saved while its task was deferred."""
        restored = cls.__new__(cls)
        restored._open(ledger, state)
        restored._items = restored._number("select coalesce(max(first + json_array_length(ids)), 0) from chunks")
        restored._begin_state()
        return restored

    @property
    def run(self) -> str:
        """The run's name."""
        return self._about("run")

    @property
    def settings(self) -> str:
        """The settings' digest."""
        return self._about("settings")

    @property
    def sends_everything(self) -> bool:
        """Whether records that are confirmed as they are, are sent too."""
        return bool(self._about("everything"))

    @property
    def state_file(self) -> str:
        """Which file the state was last read from or written to; the ledger only remembers it."""
        return self._about("state file")

    @state_file.setter
    def state_file(self, name: str) -> None:
        self._note("state file", name)

    @property
    def state_is_contested(self) -> bool:
        """Whether another run has been found to work on the same state; the ledger only remembers it."""
        return bool(self._about("contested"))

    @state_is_contested.setter
    def state_is_contested(self, contested: bool) -> None:
        self._note("contested", "yes" if contested else "")

    # What earlier syncs have left

    def load_state(self, states: Iterable[RecordState]) -> None:
        """Take over the state of earlier syncs, record by record."""
        settings = self._numbers("settings")
        runs = self._numbers("runs")
        fields = self._numbers("fields")
        rows = (
            (
                *(s.id, s.digest, settings(s.settings), runs(s.run), s.failed_digest, s.attempts, s.outcome),
                *(s.key, s.message, None if s.confirmed_at is None else round(s.confirmed_at * 1000)),
                *(None if names is None else fields(names) for names in (s.fields, s.not_cleared)),
            )
            for s in states
        )
        self._db.executemany("insert or replace into earlier.state values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._begin_state()

    def use_state(self, file: IO[bytes]) -> None:
        """
        Take over the state of earlier syncs as ``save_state`` wrote it.

        :raises ValueError: it is damaged; nothing is known of earlier syncs then.
        """
        columns = self._db.execute("pragma earlier.table_info(state)").fetchall()
        self._db.execute("commit")
        try:
            self._database.attach("earlier", file)
            self._db.execute(
                "select 1 from earlier.state, earlier.runs, earlier.settings, earlier.fields limit 1"
            ).fetchall()
            if columns != self._db.execute("pragma earlier.table_info(state)").fetchall():
                raise ValueError("it has other columns")
        except (sqlite3.Error, ValueError) as error:
            self._database.attach("earlier")
            self._db.execute("begin")
            self._script(sql.EARLIER)
            self._begin_state()
            raise ValueError(str(error)) from error
        self._db.execute("begin")
        self._begin_state()

    def forget_state(self) -> None:
        """Know nothing of earlier syncs."""
        for table in ("state", "runs", "settings", "fields"):
            self._db.execute(f"delete from earlier.{table}")  # noqa: S608
        self._note("state file", "")
        self._begin_state()

    @property
    def known(self) -> int:
        """Ids that earlier syncs have left a state of."""
        return self._number("select count(*) from earlier.state")

    @property
    def has_other_settings(self) -> bool:
        """Whether all that is known was made under other settings, so that nothing counts as confirmed."""
        same = "select exists (select 1 from earlier.state where settings = :settings)"
        return bool(self.known) and not self._number(same, self._names)

    # What the source has

    def add_records(self, ids: Sequence[str], items: Sequence[bytes]) -> None:
        """Write down records that could be sent, in the order of the source."""
        if not ids:
            return
        digests = array("q", b"".join([made.digest() for made in map(blake2b, items)]))[::_LONGS_PER_DIGEST].tolist()
        encoded = msgspec.json.encode(ids).decode()
        first, self._items = self._items, self._items + len(ids)
        self._db.execute("insert into chunks values (?, ?)", (first, encoded))
        new: Sequence[int] = range(len(ids))
        if self._compare is not None:
            found, standing = self._db.execute(self._compare, {**self._names, "ids": encoded}).fetchone()
            if standing:
                self._db.execute(sql.FIND_STANDING, {"ids": encoded})
            confirmed = msgspec.json.decode(found)
            if confirmed == digests:
                return
            new = [place for place, digest in enumerate(confirmed) if digest != digests[place]]
        contents = self._contents([items[place] for place in new])
        rows = (
            (first + place, ids[place], digests[place], content) for place, content in zip(new, contents, strict=True)
        )
        self._db.executemany("insert into rows values (?, ?, ?, ?)", rows)

    def note_targets(self, targets: Iterable[tuple[str, str]]) -> None:
        """
        Write down what the source has columns for.

        :param targets: path of a field and name of its column.
        """
        self._db.executemany("insert or ignore into targets values (?, ?)", targets)

    def leave_out(self, failure: Failure) -> None:
        """Write down a row that is no item: it is refused, or superseded by a newer sync."""
        record_id = None if failure.id is None else json_safe_text(failure.id)
        values = (failure.row, record_id, failure.outcome, failure.key, shortened(failure.message))
        self._db.execute("insert into unsent values (?, ?, ?, ?, ?)", values)

    def supersede(self, items: Iterable[int]) -> None:
        """Write down which items (from 0) will not be sent, because a later one has the same id."""
        rows = ((item,) for item in items)
        self._db.executemany("insert into held values (?, 'superseded', null, null)", rows)

    # What is sent of it

    def was_updated_after(self, record_id: str, failed_at: float) -> bool:
        """
        Say whether a sync after a record's failure has updated it, so that sending it again would undo that.

        What an earlier try of the same run has confirmed is no later sync's.
        """
        later = "select exists (select 1 from earlier.state where id = :id and confirmed_at > :at and run <> :run)"
        return bool(self._number(later, {"id": record_id, "at": failed_at * 1000, "run": self._names["run"]}))

    def set_aside(self, max_attempts: int) -> int:
        """Hold back records that Voucherify has refused so often with the same content. Returns how many."""
        self._find_failed_before()
        return self._db.execute(sql.SET_ASIDE, {"key": MAX_ATTEMPTS, "most": max_attempts}).rowcount

    def aside(self) -> Iterator[tuple[int, Failure, Attempts]]:
        """Give the items that ``set_aside`` holds back, in order, with what is known of their failures."""
        for item, record_id, message in self._db.execute(sql.ASIDE, {"key": MAX_ATTEMPTS}):
            yield item, Failure("refused", record_id, MAX_ATTEMPTS, message), self.attempts(record_id)

    def attempts(self, record_id: str) -> Attempts:
        """Return in how many earlier runs Voucherify has not accepted an id's record as it is in this sync."""
        self._find_failed_before()
        found = self._db.execute("select attempts, key, message from failed_before where id = ?", (record_id,))
        if (told := found.fetchone()) is None:
            return Attempts(0, 0.0)
        last = {name: text for name, text in zip(("key", "message"), told[1:], strict=True) if text is not None}
        return Attempts(told[0], 0.0, (last,) if last else ())

    def items_to_send(self) -> Iterator[int]:
        """Give the items that are new, different or not confirmed, in order."""
        return (item for (item,) in self._db.execute(sql.TO_SEND))

    @property
    def unchanged(self) -> int:
        """Rows that are not sent, because Voucherify has confirmed their records as they are."""
        return self._items - self._number(sql.NOT_SIMPLY_UNCHANGED)

    @property
    def has_rows_without_id(self) -> bool:
        """Whether there are rows of which nobody can say whose they are."""
        return bool(self._number("select exists (select 1 from unsent where id is null)"))

    def find_removed(self, *, to_be_marked: bool) -> tuple[int, int]:
        """
        Find the ids that earlier syncs had and the source has no more.

        :param to_be_marked: find those too that were reported by an earlier sync and not marked.
        :returns: how many of those that Voucherify has confirmed once are gone, and of how many.
        """
        self._note("marks", "yes" if to_be_marked else "")
        candidates, had = self._db.execute(sql.COUNT_CANDIDATES, self._names).fetchone()
        if self._number(sql.COUNT_KNOWN_IN_SOURCE, {**self._names, "items": self._items}) < candidates:
            self._script(sql.FIND_PRESENT)
            self._db.execute(sql.FIND_REMOVED, self._names)
            self._db.execute("delete from present")
        return self._number("select count(*) from removed where was_confirmed"), had

    def returned(self, marked: Iterable[str]) -> int:
        """
        Say how many records are in the source again that are marked as removed, and will stay so.

        :param marked: paths of the fields that a mark sets. If the source has a column for each, nobody stays marked.
        """
        return self._number(sql.COUNT_RETURNED, {"paths": json.dumps(list(marked))})

    def forget_removed(self) -> None:
        """Take nobody for removed after all."""
        self._db.execute("delete from removed")

    def removed(self) -> Iterator[str]:
        """Give the ids that left the source and that Voucherify has."""
        return (i for (i,) in self._db.execute("select id from removed where was_confirmed order by id"))

    @property
    def has_to_send(self) -> bool:
        """Whether there are records to send."""
        return bool(self._number(sql.HAS_TO_SEND, self._names))

    def doubt(self) -> None:
        """
        Take the confirmation from all records that are about to be sent.

        Should nobody live to read the answer, nobody knows which content Voucherify has.
        """
        self._db.execute(sql.FIND_DOUBTED, self._names)
        self._db.execute(sql.DOUBT)

    def doubted(self) -> Iterator[str]:
        """Give the ids that have a state and are about to be sent, as ``doubt`` has found them."""
        return (record_id for (record_id,) in self._db.execute("select id from doubted order by id"))

    def note_overtaken(self, ids: Iterable[str] | None) -> None:
        """
        Write down whom another run may have sent after an earlier try of this one.

        :param ids: None for everybody.
        """
        if ids is None:
            self._note("overtaken", "all")
        else:
            self._db.executemany("insert or ignore into overtaken values (?)", ((record_id,) for record_id in ids))

    @property
    def has_overtaken(self) -> bool:
        """Whether another run may have sent anybody after an earlier try of this one."""
        return bool(self._about("overtaken")) or bool(self._number("select exists (select 1 from overtaken)"))

    def is_overtaken(self, ids: Sequence[str]) -> bool:
        """Say whether another run may have sent one of these after an earlier try of this one has."""
        if self._about("overtaken"):
            return True
        found = "select exists (select 1 from json_each(?) j join overtaken o on o.id = j.value)"
        return bool(self._number(found, (msgspec.json.encode(ids).decode(),)))

    # What Voucherify answers

    def add(self, settled: Settled) -> None:
        """
        Note what became of a batch's records; see ``settlement.told_of_records`` for where the answer is not clear.

        Of one of which it is not known what was sent there is nothing to note.
        """
        if settled.body is None or settled.endpoint is None:
            return
        outcome, upserts = settled.whole, settled.endpoint.upserts
        self._script("delete from batch; delete from named; delete from told")
        failures = ((record_id, *_reason(failure)) for record_id, failure in outcome.failures.items())
        self._db.executemany("insert or ignore into named values (?, ?, ?, ?)", failures)
        self._db.executemany("insert into batch values (?, ?)", outcome.said.items())
        rows = ((word, of_it, confirmed_by(of_it, upserts=upserts)) for word, of_it in outcome.told.items())
        self._db.executemany("insert into told values (?, ?, ?)", rows)
        reason = zip(("key", "message", "details"), _reason(outcome.reason_of_silent()), strict=True)
        counted = not outcome.failed_as_a_whole
        self._db.execute(sql.ANSWER, {"action": settled.async_action_id, "counted": counted, **dict(reason)})

    def not_cleared(self) -> NotCleared | None:
        """
        Say which values Voucherify still has although the source no longer has them; None if no state could tell.

        These are values of records that this sync has sent and Voucherify has confirmed, or that were not sent because
        they are as they were.
        """
        if not self._keeps_state:
            return None
        self._compare_fields()
        columns = dict(self._db.execute("select path, column_name from targets"))
        records: Counter[str] = Counter()
        for names, number in self._db.execute(sql.NOT_CLEARED):
            records.update(dict.fromkeys((path for path in json.loads(names) if _is_of(path, columns)), number))
        return NotCleared(dict(records.most_common()), {path: _column(path, columns) for path in records})

    # What is known in the end

    def outcomes(self, *, with_unchanged: bool = True) -> Iterator[RowOutcome]:
        """
        Give the outcome of every row in the order of the source, then of the records that left it.

        :param with_unchanged: give those of rows too that were not sent because they had not changed.
        """
        unsent = self._db.execute("select row, id, outcome, key, message from unsent order by row")
        next_unsent = unsent.fetchone()
        before = 0  # unsent rows before the item
        for item, *told in self._told_of_items() if with_unchanged else self._told_of_special_items():
            while next_unsent is not None and next_unsent[0] <= item + before + 1:
                yield RowOutcome(*next_unsent)
                before += 1
                next_unsent = unsent.fetchone()
            yield RowOutcome(item + before + 1, *told)
        while next_unsent is not None:
            yield RowOutcome(*next_unsent)
            next_unsent = unsent.fetchone()
        yield from (RowOutcome(*told) for told in self._db.execute(sql.OF_REMOVED, self._names))

    def _told_of_special_items(self) -> Iterator[tuple[Any, ...]]:
        """Give item, id, outcome, key, message, details and action of the items that are not just unchanged."""
        if not self._number("select exists (select 1 from held)"):
            return self._db.execute(sql.OF_ROWS)
        return merge(self._db.execute(sql.OF_ROWS), self._db.execute(sql.OF_HELD), key=lambda told: told[0])

    def _told_of_items(self) -> Iterator[tuple[Any, ...]]:
        special = self._told_of_special_items()
        following = next(special, None)
        for first, ids in self._db.execute("select first, ids from chunks order by first"):
            for item, record_id in enumerate(msgspec.json.decode(ids), first):
                if following is not None and following[0] == item:
                    yield following
                    following = next(special, None)
                else:
                    yield item, record_id, "unchanged"

    def count_recreated(self) -> int:
        """Count the records that an earlier run has confirmed and that Voucherify had to create in this one."""
        return self._number(sql.COUNT_RECREATED, self._names)

    def update_state(self) -> None:
        """
        Bring the state up to date.

        Only what is confirmed is known by its digest. Attempts are the runs in which Voucherify has named a record, or
        all records of its request, as failed; that a whole action came to nothing is not the record's fault.
        """
        self._compare_fields()
        self._db.execute(sql.TAKE_ANSWERS, {**self._names, "now": round(time.time() * 1000)})
        self._db.execute(sql.TAKE_REFUSED, self._names)
        self._db.execute(sql.TAKE_REMOVED, self._names)

    def changed_states(self) -> Iterator[RecordState]:
        """Give the state of every id that this sync has changed."""
        return (RecordState(*row) for row in self._db.execute(sql.CHANGED_STATES, self._names))

    # The files

    def save(self, file: IO[bytes]) -> None:
        """Write the ledger, without the state, into a file, for a task that is deferred."""
        self._copy("main", file)

    def save_state(self, file: IO[bytes]) -> None:
        """Write the state alone into a file."""
        self._copy("earlier", file)

    def digest_of_state(self) -> str:
        """Return the SHA-256 of what ``save_state`` writes."""
        self._db.execute("commit")
        digest = hashlib.file_digest(self._database.content("earlier"), "sha256").hexdigest()
        self._db.execute("begin")
        return digest

    def close(self) -> None:
        """Give the disk space back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _names(self) -> dict[str, object]:
        """What the ledger's SQL calls by name."""
        return {**self._numbers_of_sync, "marks": bool(self._about("marks"))}

    def _open(self, ledger: IO[bytes] | None = None, state: IO[bytes] | None = None) -> None:
        """Open both files. All of a ledger's life is one transaction, since nobody else looks at them."""
        self._database = UnnamedDatabase(ledger)
        self._db = self._database.db
        self._database.attach("earlier", state)
        self._db.execute("begin")
        if state is None:
            self._script(sql.EARLIER)

    @property
    def _keeps_state(self) -> bool:
        return bool(self._about("keeps state"))

    def _contents(self, items: Sequence[bytes]) -> Sequence[int | None]:
        """Return the numbers of what each item has for fields; an item that is a bare id has none."""
        if not self._keeps_state:
            return [None] * len(items)
        number = self._numbers("contents")
        known: dict[Any, int | None] = {}
        numbers: list[int | None] = []
        for record in _decode_lines(b"\n".join(items)):
            fields = _fields_of(record) if type(record) is dict else None
            if fields not in known:
                known[fields] = None if fields is None else number(json.dumps(fields))
            numbers.append(known[fields])
        return numbers

    def _compare_fields(self) -> None:
        """Find out which fields Voucherify has, for each content of a record and all that it may have had before."""
        self._db.execute("delete from clearing")
        columns = dict(self._db.execute("select path, column_name from targets"))
        number = self._numbers("fields")

        def kept(paths: Iterable[str]) -> int | None:
            names = sorted(paths)
            return number(json.dumps(names)) if names else None

        for had_number, content in self._db.execute(sql.FIND_CONTENTS):
            (said,) = self._db.execute("select name from contents where number = ?", (content,)).fetchone()
            present, nulls = map(frozenset, json.loads(said))
            names = self._db.execute("select name from earlier.fields where number = ?", (had_number,)).fetchone()
            had = frozenset(json.loads(names[0])) if names else frozenset()
            left = {p for p in had - present - nulls if p.partition(".")[0] not in nulls and _is_of(p, columns)}
            row = (content, had_number, kept(present | left), kept(left), kept(had | present), kept(present))
            self._db.execute("insert into clearing values (?, ?, ?, ?, ?, ?)", row)

    def _begin_state(self) -> None:
        """Look up the run and the settings in the state, whose numbers for them are its own."""
        self._numbers_of_sync = {
            "run": self._numbers("runs")(self.run),
            "settings": self._numbers("settings")(self.settings),
        }
        self._db.execute("delete from of_project")
        self._db.execute(sql.FIND_PROJECT, {"project": self.settings[:PROJECT_CHARACTERS]})
        self._compare: str | None = None
        if self.known and not self.sends_everything:
            simple = "select count(*) = 1 from earlier.settings"
            first_try = "select not exists (select 1 from earlier.state where run = :run)"
            closely = not self._number(simple) or not self._number(first_try, self._names)
            self._compare = sql.COMPARE_CLOSELY if closely else sql.COMPARE

    def _find_failed_before(self) -> None:
        if not self._about("failed before"):
            self._note("failed before", "known")
            self._db.execute(sql.FIND_FAILED_BEFORE, self._names)

    def _numbers(self, table: Literal["runs", "settings", "fields", "contents"]) -> Callable[[str], int]:
        """Return a function that gives the number of what a table names, a new one if there is none."""
        schema = "main" if table == "contents" else "earlier"
        add = f"insert or ignore into {schema}.{table}(name) values (?)"  # noqa: S608
        find = f"select number from {schema}.{table} where name = ?"  # noqa: S608
        known: dict[str, int] = {}

        def number(name: str) -> int:
            if name not in known:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                self._db.execute(add, (name,))
                known[name] = self._number(find, (name,))
            return known[name]

        return number

    def _copy(self, name: str, to: IO[bytes]) -> None:
        self._db.execute("commit")
        self._database.copy(name, to)
        self._db.execute("begin")

    def _script(self, statements: str) -> None:
        for statement in statements.split(";"):
            self._db.execute(statement)

    def _note(self, name: str, value: str) -> None:
        self._db.execute("insert or replace into about values (?, ?)", (name, value))

    def _about(self, name: str) -> str:
        found = self._db.execute("select value from about where name = ?", (name,)).fetchone()
        return str(found[0]) if found is not None else ""

    def _number(self, query: str, values: Any = ()) -> int:
        (number,) = self._db.execute(query, values).fetchone()
        return int(number)


def _fields_of(record: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths of the fields of which a record has a value, and of those that are null, but for the key."""
    present: list[str] = []
    nulls: list[str] = []
    for name, value in islice(record.items(), 1, None):
        if type(value) is dict:
            for member, inner in value.items():
                (nulls if inner is None else present).append(f"{name}.{member}")
        else:
            (nulls if value is None else present).append(name)
    return tuple(present), tuple(nulls)


def _is_of(path: str, columns: Mapping[str, str]) -> bool:
    """Say whether the source has a column for a field: if it no longer has one, the field is not its concern."""
    return path in columns or path.partition(".")[0] in columns


def _column(path: str, columns: Mapping[str, str]) -> str:
    return columns.get(path) or columns[path.partition(".")[0]]


def _reason(failure: Failure | None) -> tuple[str | None, str | None, str | None]:
    """Return key, message and details of a failure, as the ledger has them."""
    if failure is None:
        return None, None, None
    key = None if failure.key is None else json_safe_text(failure.key)
    return key, shortened(failure.message), shortened(failure.details)
