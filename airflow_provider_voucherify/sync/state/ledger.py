"""
The ledger of one sync: every row of the source with what became of it, and what is known of earlier syncs.

It is two SQLite files without a name on local disk, so nothing is left behind when the process is killed, memory does
not grow with the rows, and joining the plan, the answers and the state of earlier syncs is SQL. It is only kept if
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

import json
import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import starmap
from typing import IO, Any, Self

import msgspec

from airflow_provider_voucherify.sync.state import ledger_sql as sql
from airflow_provider_voucherify.sync.state.cleared_fields import ClearedFields
from airflow_provider_voucherify.sync.state.failing_records import FailingRecords
from airflow_provider_voucherify.sync.state.ledger_database import LedgerDatabase
from airflow_provider_voucherify.sync.state.read_back_records import ReadBackRecords
from airflow_provider_voucherify.sync.state.record_state import RecordState, StateColumns
from airflow_provider_voucherify.sync.state.removed_records import RemovedRecords
from airflow_provider_voucherify.sync.state.row_outcomes import row_outcomes
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.hiding import Hiding
from airflow_provider_voucherify.sync.types.outcome import RowOutcome, confirmed_by
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.text import json_safe_text, shortened

PROJECT_CHARACTERS = 12
"""Of a digest of settings, those that only depend on the project."""

Around = tuple[str, str] | None
"""What stands before and after an item in the JSON of what its record gets."""

_LONGS_PER_DIGEST = 8


class Ledger:
    """
    The rows of one sync on disk. A context manager; closing it gives the disk space back.

    :param run: names the run, the same for all its tries.
    :param settings: digest of the settings under which records are made, of which the first ``PROJECT_CHARACTERS`` tell
        the project. What was confirmed under others counts for nothing, and only the same project's records can leave
        the source.
    :param everything: send records that are confirmed as they are, too.
    :param values: keep the JSON of what is sent: what stands around an item in it, as ``Destination.around_item`` says;
        None to keep nothing.
    :param mark: the same of an id that is marked as removed.
    :ivar fields: those of which Voucherify has a value.
    :ivar failing: the records that failed before, and fail again.
    :ivar hiding: leaves ids and values out of the outcomes; None by default.
    :ivar read_back: what reading back has shown.
    :ivar removed: the records that left the source.
    """

    def __init__(
        self, run: str, settings: str, *, everything: bool = True, values: Around = None, mark: Around = None
    ) -> None:
        self._use(LedgerDatabase())
        self._items = 0
        self._database.note("run", run)
        self._database.note("settings", settings)
        self._database.note("everything", "yes" if everything else "")
        if values is not None:
            self._database.note("values", json.dumps(values))
        if values is not None and mark is not None:
            self._database.note("mark", json.dumps(mark))
        self._begin_state()

    @classmethod
    def restore(cls, ledger: IO[bytes], state: IO[bytes]) -> Self:
        """Open a ledger again that was saved while its task was deferred."""
        restored = cls.__new__(cls)
        restored._use(LedgerDatabase(ledger, state))
        restored._items = restored._database.count_items()
        restored._begin_state()
        return restored

    @property
    def run(self) -> str:
        """The run's name."""
        return self._database.about("run")

    @property
    def settings(self) -> str:
        """The settings' digest."""
        return self._database.about("settings")

    @property
    def sends_everything(self) -> bool:
        """Whether records that are confirmed as they are, are sent too."""
        return bool(self._database.about("everything"))

    @property
    def state_file(self) -> str:
        """Which file the state was last read from or written to; the ledger only remembers it."""
        return self._database.about("state file")

    @state_file.setter
    def state_file(self, name: str) -> None:
        self._database.note("state file", name)

    @property
    def state_is_contested(self) -> bool:
        """Whether another run has been found to work on the same state; the ledger only remembers it."""
        return bool(self._database.about("contested"))

    @state_is_contested.setter
    def state_is_contested(self, contested: bool) -> None:
        self._database.note("contested", "yes" if contested else "")

    # What earlier syncs have left

    def load_state(self, states: Iterable[StateColumns]) -> None:
        """Take over the state of earlier syncs, but for what Voucherify confirmed last of each record."""
        self._database.load_state(states)
        self._begin_state()

    def use_state(self, file: IO[bytes]) -> None:
        """
        Take over the state of earlier syncs as ``save_state`` wrote it.

        :raises ValueError: it is damaged; nothing is known of earlier syncs then.
        """
        try:
            self._database.use_state(file)
        finally:
            self._begin_state()

    def forget_state(self) -> None:
        """Know nothing of earlier syncs."""
        self._database.forget_state()
        self._database.note("state file", "")
        self._begin_state()

    @property
    def known(self) -> int:
        """Ids that earlier syncs have left a state of."""
        return self._database.number("select count(*) from earlier.state")

    @property
    def has_other_settings(self) -> bool:
        """Whether all that is known was made under other settings, so that nothing counts as confirmed."""
        same = "select exists (select 1 from earlier.state where settings = :settings)"
        return bool(self.known) and not self._database.number(same, self._database.names)

    # What the source has

    def add_records(
        self,
        ids: Sequence[str],
        items: Sequence[bytes],
        same: Sequence[bool] | None = None,
        fields_key: Callable[[int], Hashable] | None = None,
    ) -> None:
        """
        Write down records that could be sent, in the order of the source.

        :param same: which of them Voucherify has as they are; None if only the state of earlier syncs tells.
        :param fields_key: gives, for the place of an item, a key that items share if they have the same fields, with a
            value or null; by default the item itself, which is slow.
        """
        if not ids:
            return
        digests = array("q", b"".join([made.digest() for made in map(blake2b, items)]))[::_LONGS_PER_DIGEST].tolist()
        encoded = msgspec.json.encode(ids).decode()
        first, self._items = self._items, self._items + len(ids)
        self._db.execute("insert into chunks values (?, ?)", (first, encoded))
        new: Sequence[int] = range(len(ids))
        if same is not None:
            self._db.execute(sql.FIND_STANDING, {"ids": encoded})
            proven = [(ids[place], digests[place]) for place in new if same[place]]
            self._db.executemany("insert or replace into proven values (?, ?)", proven)
            new = [place for place in new if not same[place]]
        elif self._compare is not None:
            values = {**self._database.names, "ids": encoded}
            digests_before, standing = self._db.execute(self._compare, values).fetchone()
            if standing:
                self._db.execute(sql.FIND_STANDING, {"ids": encoded})
            confirmed = msgspec.json.decode(digests_before)
            if confirmed == digests:
                return
            new = [place for place, digest in enumerate(confirmed) if digest != digests[place]]
        columns: list[Sequence[Any]] = [[column[place] for place in new] for column in (ids, digests)]
        contents = self.fields.contents(items, new, fields_key)
        rows = zip([first + place for place in new], *columns, contents, strict=True)
        self._db.executemany("insert into rows values (?, ?, ?, ?)", rows)
        if self._around is not None:
            begin, end = self._around
            sent = ((first + place, f"{begin}{items[place].decode()}{end}") for place in new)
            self._db.executemany("insert into sent values (?, ?)", sent)

    def leave_out(self, failure: Failure) -> None:
        """Write down a row that is not an item: it is refused, or superseded by a newer sync."""
        failure = failure if self.hiding is None else self.hiding.texts(failure)
        record_id = None if failure.id is None else json_safe_text(failure.id)
        values = (failure.row, record_id, failure.outcome, failure.key, shortened(failure.message))
        self._db.execute("insert into unsent values (?, ?, ?, ?, ?)", values)

    def supersede(self, items: Iterable[int]) -> None:
        """Write down which items (from 0) will not be sent, because a later one has the same id."""
        rows = ((item,) for item in items)
        self._db.executemany("insert into held(item, outcome) values (?, 'superseded')", rows)

    def refuse(self, item: int, key: str, message: str) -> None:
        """Write down an item (from 0) that will not be sent, because of what Voucherify has."""
        held = "insert or replace into held(item, outcome, key, message) values (?, 'refused', ?, ?)"
        self._db.execute(held, (item, key, message))

    # What is sent of it

    def was_updated_after(self, record_id: str, failed_at: float) -> bool:
        """
        Say whether a sync after a record's failure has updated it, so that sending it again would undo that.

        What an earlier try of the same run has confirmed does not count.
        """
        later = "select exists (select 1 from earlier.state where id = :id and confirmed_at > :at and run <> :run)"
        return bool(self._database.number(later, {**self._database.names, "id": record_id, "at": failed_at * 1000}))

    def items_to_send(self) -> Iterator[int]:
        """Give the items that are new, different or not confirmed, in order."""
        return (item for (item,) in self._db.execute(sql.TO_SEND))

    @property
    def unchanged(self) -> int:
        """Rows that are not sent, because Voucherify has confirmed their records as they are."""
        return self._items - self._database.number(sql.NOT_SIMPLY_UNCHANGED)

    @property
    def rows_without_id(self) -> tuple[int, int, str]:
        """How many rows there are of which nobody can say whose they are; which is the first, and why it is refused."""
        rows = "select count(*), coalesce(min(row), 0), coalesce(message, key, '') from unsent where id is null"
        number, first, why = self._db.execute(rows).fetchone()
        return number, first, why

    @property
    def has_to_send(self) -> bool:
        """Whether there are records to send."""
        return bool(self._database.number(sql.HAS_TO_SEND, self._database.names))

    def doubt(self) -> None:
        """
        Take the confirmation from all records that are about to be sent.

        Should nobody live to read the answer, nobody knows which content Voucherify has.
        """
        self._db.execute(sql.FIND_DOUBTED, self._database.names)
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
            self._database.note("overtaken", "all")
        else:
            self._db.executemany("insert or ignore into overtaken values (?)", ((record_id,) for record_id in ids))

    @property
    def has_overtaken(self) -> bool:
        """Whether another run may have sent anybody after an earlier try of this one."""
        anybody = "select exists (select 1 from overtaken)"
        return bool(self._database.about("overtaken")) or bool(self._database.number(anybody))

    def is_overtaken(self, ids: Sequence[str]) -> bool:
        """Say whether another run may have sent one of these after an earlier try of this one has."""
        if self._database.about("overtaken"):
            return True
        query = "select exists (select 1 from json_each(?) j join overtaken o on o.id = j.value)"
        return bool(self._database.number(query, (msgspec.json.encode(ids).decode(),)))

    # What Voucherify answers

    def add(self, settled: Settled) -> None:
        """Note what became of a batch's records, if it is known what was sent; ``settlement.verdicts`` decides it."""
        if settled.body is None or settled.endpoint is None:
            return
        outcome, upserts = settled.whole, settled.endpoint.upserts
        self._db.execute("delete from named")
        failures = ((record_id, *_reason(failure)) for record_id, failure in outcome.failures.items())
        self._db.executemany("insert or ignore into named values (?, ?, ?, ?)", failures)
        names = {"action": settled.async_action_id, "counted": not outcome.failed_as_a_whole}
        for word, of_it in outcome.verdicts.items():
            reason = _reason(None if word else outcome.reason_of_silent())
            names |= dict(zip(("key", "message", "details"), reason, strict=True))
            names |= {"outcome": of_it, "confirmed": confirmed_by(of_it, upserts=upserts)}
            ids = [record_id for record_id, answer in outcome.answers.items() if answer == word]
            self._db.execute(sql.ANSWER, {**names, "ids": msgspec.json.encode(ids).decode()})

    # What is known in the end

    def outcomes(self, *, with_unchanged: bool = True) -> Iterator[RowOutcome]:
        """
        Give the outcome of every row in the order of the source, then of the records that left it.

        :param with_unchanged: give those of rows too that were not sent because they had not changed.
        """
        outcomes = row_outcomes(self._database, with_unchanged=with_unchanged)
        return outcomes if self.hiding is None else map(self.hiding.outcome, outcomes)

    def count_recreated(self) -> int:
        """Count the records that an earlier run has confirmed and that Voucherify had to create in this one."""
        return self._database.number(sql.COUNT_RECREATED, self._database.names)

    def update_state(self) -> None:
        """
        Bring the state up to date.

        Only what is confirmed is known by its digest. Attempts are the runs in which Voucherify has named a record, or
        all records of its request, as failed; that a whole action came to nothing is not the record's fault.
        """
        self.fields.compare()
        names = {**self._database.names, "now": round(time.time() * 1000)}
        for statement in sql.UPDATE_STATE:
            self._db.execute(statement, names)
        self._db.execute(sql.FORGET_CONTENTS if self._around is None else sql.TAKE_CONTENTS)

    def changed_states(self) -> Iterator[RecordState]:
        """Give the state of every id that this sync has changed."""
        return starmap(RecordState, self._db.execute(sql.CHANGED_STATES, self._database.names))

    # The files

    def save(self, file: IO[bytes]) -> None:
        """Write the ledger, without the state, into a file, for a task that is deferred."""
        self._database.copy("main", file)

    def save_state(self, file: IO[bytes]) -> None:
        """Write the state alone into a file."""
        self._database.copy("earlier", file)

    def digest_of_state(self) -> str:
        """Return the SHA-256 of what ``save_state`` writes."""
        return self._database.digest("earlier")

    def close(self) -> None:
        """Give the disk space back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _use(self, database: LedgerDatabase) -> None:
        self._database = database
        self._db = database.db
        self.fields = ClearedFields(database)
        self.hiding: Hiding | None = None
        self.failing = FailingRecords(database)
        self.read_back = ReadBackRecords(database)
        self.removed = RemovedRecords(database)

    def _begin_state(self) -> None:
        """Take over the state as it is now, and find out how the source is compared with it."""
        self._database.find_sync(self.settings[:PROJECT_CHARACTERS])
        self._around = self._database.around("values")
        self._compare: str | None = None
        if self.known and not self.sends_everything:
            simple = "select count(*) = 1 from earlier.settings"
            first_try = "select not exists (select 1 from earlier.state where run = :run)"
            closely = not self._database.number(simple) or not self._database.number(first_try, self._database.names)
            self._compare = sql.COMPARE_CLOSELY if closely else sql.COMPARE


def _reason(failure: Failure | None) -> tuple[str | None, str | None, str | None]:
    """Return key, message and details of a failure, as the ledger has them."""
    if failure is None:
        return None, None, None
    key = None if failure.key is None else json_safe_text(failure.key)
    return key, shortened(failure.message), shortened(failure.details)
