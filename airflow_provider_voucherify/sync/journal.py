"""
The journal of one task instance: which batches were sent, so that the next try does not send them again.

Before a batch is posted its intent is written down, and after the answer its ``async_action_id``. What identifies a
batch is its content (a digest of endpoint and body), not its position, so a source that has changed between two tries,
or a list of mapped tasks that was expanded anew, can never be given somebody else's action.

A person who clears a task wants it done again. Airflow 3.3 keeps the task state store then, but raises the task's
``max_tries``, which a retry does not; so an entry counts only for the ``max_tries`` under which it was written. Where a
later Airflow empties the store on a clear, there is nothing to ignore. Clearing a task *while it runs* changes neither:
the restarted task goes on where the interrupted one was.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

VERSION = 1
KEY = "voucherify_journal"
ENTRIES_PER_PAGE = 200
"""An entry takes about 110 bytes, so a page stays far below the 64 KB that Airflow's store takes for one value."""


class StateStore(Protocol):
    """The part of Airflow's task state store that is needed here."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default."""

    def set(self, key: str, value: Any) -> None:
        """Write a JSON value, to be kept for as long as the task instance is."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """
    One batch.

    :param digest: of its endpoint and body.
    :param records: how many it has.
    :param at: when it was about to be posted, Unix epoch seconds.
    :param async_action_id: what Voucherify answered; None while in doubt whether it was taken.
    :param failed: how many of its records Voucherify rejected, where they are to be sent again.
    :param outdated: the source has changed since, so that the batch would be sent again if it came back.
    :param split: the batch was too large for Voucherify and was sent in two halves.
    :param resubmitted: how often it was posted again although Voucherify may have taken it before.
    :param earlier: earlier actions of the same batch, which must not be taken for its present one.
    """

    digest: str
    records: int
    at: float
    async_action_id: str | None = None
    outdated: bool = False
    failed: int = 0
    earlier: tuple[str, ...] = ()
    split: bool = False
    resubmitted: int = 0

    @property
    def in_doubt(self) -> bool:
        """Whether Voucherify may have taken it, and no action of it is known."""
        return self.async_action_id is None and not self.split


class Journal:
    """
    Entries by digest, written through to a store.

    :param store: where entries are kept; None remembers nothing between tries.
    :param max_tries: the task instance's ``max_tries``.
    """

    def __init__(self, store: StateStore | None, max_tries: int) -> None:
        self._store = store
        self._max_tries = max_tries
        self._pages: list[list[JournalEntry]] = []
        self._entries: dict[str, tuple[int, int]] = {}
        for page in self._stored_pages():
            self._pages.append(page)
            self._entries |= {entry.digest: (len(self._pages) - 1, place) for place, entry in enumerate(page)}

    def __iter__(self) -> Iterator[JournalEntry]:
        """Give the entries in the order in which their batches were last about to be posted."""
        for number, page in enumerate(self._pages):
            for place, entry in enumerate(page):
                if self._entries.get(entry.digest) == (number, place):
                    yield entry

    def find(self, digest: str) -> JournalEntry | None:
        """Return a batch's entry, None where it was never about to be posted, or is outdated."""
        place = self._entries.get(digest)
        entry = self._pages[place[0]][place[1]] if place is not None else None
        return entry if entry is not None and not entry.outdated else None

    def outdate_all_but(self, digests: Container[str]) -> int:
        """
        Mark the batches that a changed source does not have any more, and return how many those are.

        Done before anything new is posted. Should the source change back, what was sent in between may have overwritten
        their records, so they are sent again. They are remembered lest their actions be taken for other batches'.
        """
        touched, outdated = set(), 0
        for entry in list(self):
            if entry.digest not in digests and not entry.outdated:
                page, place = self._entries[entry.digest]
                touched.add(page)
                outdated += 1
                self._pages[page][place] = replace(entry, outdated=True)
        for page in sorted(touched):
            self._write(page)
        return outdated

    def intend(self, entry: JournalEntry) -> None:
        """Write down that a batch is about to be posted (again): it goes to the end of the journal."""
        before = self._entries.get(entry.digest)
        if before is not None:
            replaced = self._pages[before[0]][before[1]]
            ids = (*replaced.earlier, replaced.async_action_id)
            entry = replace(
                entry,
                earlier=tuple(action_id for action_id in ids if action_id is not None),
                resubmitted=replaced.resubmitted + replaced.in_doubt,
            )
        page = self._append(entry)
        self._write(page)
        if before is not None and before[0] != page:
            self._write(before[0])

    def posted(self, digest: str, async_action_id: str) -> None:
        """Write down what Voucherify answered."""
        page, position = self._entries[digest]
        self._pages[page][position] = replace(self._pages[page][position], async_action_id=async_action_id)
        self._write(page)

    def rejected(self, async_action_id: str, failed: int) -> None:
        """Write down that the next try is to send so many records of an action's batch again."""
        for entry in list(self):
            if entry.async_action_id == async_action_id:
                page, place = self._entries[entry.digest]
                self._pages[page][place] = replace(entry, failed=failed)
                self._write(page)

    def was_split(self, digest: str) -> None:
        """Write down that a batch was too large, so that the next try looks for its halves."""
        page, position = self._entries[digest]
        self._pages[page][position] = replace(self._pages[page][position], split=True)
        self._write(page)

    def restore(self, entry: JournalEntry) -> None:
        """Put back what was known of a batch before it was about to be posted again, which came to nothing."""
        page, position = self._entries[entry.digest]
        self._pages[page][position] = entry
        self._write(page)

    def doubt_action(self, async_action_id: str) -> None:
        """Write down that Voucherify does not know an action, so that the next try looks for that of its batch."""
        for entry in list(self):
            if entry.async_action_id == async_action_id:
                self.restore(replace(entry, async_action_id=None))

    def withdraw(self, digest: str) -> None:
        """Forget a batch: it certainly was not taken, or its action came to nothing. It will be posted again."""
        page, _ = self._entries.pop(digest)
        self._write(page)

    def withdraw_action(self, async_action_id: str) -> None:
        """Forget the batch of an async action, if there is one."""
        for entry in list(self):
            if entry.async_action_id == async_action_id:
                self.withdraw(entry.digest)

    def _append(self, entry: JournalEntry) -> int:
        if not self._pages or len(self._pages[-1]) == ENTRIES_PER_PAGE:
            self._pages.append([])
        self._pages[-1].append(entry)
        self._entries[entry.digest] = (len(self._pages) - 1, len(self._pages[-1]) - 1)
        return len(self._pages) - 1

    def _write(self, page: int) -> None:
        if self._store is not None:
            entries = [
                [
                    e.digest,
                    e.records,
                    e.at,
                    e.async_action_id,
                    e.outdated,
                    e.failed,
                    list(e.earlier),
                    e.split,
                    e.resubmitted,
                ]
                for place, e in enumerate(self._pages[page])
                if self._entries.get(e.digest) == (page, place)
            ]
            self._store.set(f"{KEY}_{page}", {"version": VERSION, "max_tries": self._max_tries, "entries": entries})

    def _stored_pages(self) -> Iterator[list[JournalEntry]]:
        number = 0
        while self._store is not None:
            page = self._store.get(f"{KEY}_{number}")
            if not isinstance(page, Mapping) or page.get("max_tries") != self._max_tries:
                return
            readable = page.get("version") == VERSION
            yield [_entry(*entry) for entry in page["entries"]] if readable else []
            number += 1


def _entry(*stored: Any) -> JournalEntry:
    entry = JournalEntry(*stored)
    return replace(entry, earlier=tuple(entry.earlier))
