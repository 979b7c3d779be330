"""
The journal of one task instance: which batches were sent, so that the next try does not send them again.

Before a batch is posted its intent is recorded, and after the answer its ``async_action_id``. A batch is identified by
its content (a digest of endpoint and body), not its position, so a source that has changed between two tries, or a
mapped task that was expanded again, can never get another batch's action.

Somebody who clears a task wants it done again, but Airflow 3.3 keeps the task state store. So a journal counts only for
the try that wrote it and for later tries that agree with it in:

* the number of clears of its run (``clear_number``), which every clear of any of its tasks raises, unless it was asked
  to leave the state of the run alone;
* ``max_tries``, which a clear sets to the tries so far plus ``retries``, and a retry leaves alone; and ``retries``,
  without which that sum might be the same as before;
* the project that the batches went to.

If one of these differs everything is sent again. Only a clear changes ``max_tries``; if only the others differ, a clear
is likely but not certain (``Journal.is_in_doubt``), and what must not be sent twice is not sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError

VERSION = 3
KEY = "voucherify_journal"
ENTRIES_PER_PAGE = 200
"""An entry takes about 100 bytes, so a page stays far below the 64 KB that Airflow's store takes for one value."""


class StateStore(Protocol):
    """The part of Airflow's task state store that the journal needs."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default."""

    def set(self, key: str, value: Any) -> None:
        """Write a JSON value, to be kept for as long as the task instance is."""


@dataclass(frozen=True, slots=True)
class Try:
    """
    One try of a task instance, and what distinguishes a retry from a try after a clear.

    :param try_number: of the task instance.
    :param max_tries: of the task instance.
    :param retries: of the task.
    :param clear_number: of its run.
    """

    try_number: int = 1
    max_tries: int = 0
    retries: int = 0
    clear_number: int = 0


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """
    One batch.

    :param digest: of its endpoint and body.
    :param records: how many it has.
    :param async_action_id: Voucherify's answer; None while it is in doubt whether Voucherify has accepted the batch.
    :param failed: how many of its records Voucherify rejected, if they are to be sent again.
    :param split: the batch was too large for Voucherify and was sent in two halves.
    :param resubmitted: how often it was posted again although Voucherify may have accepted it before.
    """

    digest: str
    records: int
    async_action_id: str | None = None
    failed: int = 0
    split: bool = False
    resubmitted: int = 0

    @property
    def in_doubt(self) -> bool:
        """Whether Voucherify may have accepted it, and its action is unknown."""
        return self.async_action_id is None and not self.split


class Journal:
    """
    Entries by digest, written through to a store.

    :param store: where entries are kept; None keeps nothing between tries.
    :param attempt: the present try.
    :param project: the project that batches go to; None to read what was sent to any.
    :raises VoucherifyConfigurationError: another version of this package wrote the store's content.
    """

    def __init__(self, store: StateStore | None, attempt: Try, project: str | None = None) -> None:
        self._store = store
        self._attempt = attempt
        self._project = project
        self._name = uuid4().hex
        self._pages: list[list[JournalEntry]] = []
        self._entries: dict[str, tuple[int, int]] = {}
        self.why_unused: str | None = None
        self.is_in_doubt = False
        for page in self._stored_pages():
            self._pages.append(page)
            self._entries |= {entry.digest: (len(self._pages) - 1, place) for place, entry in enumerate(page)}

    def __iter__(self) -> Iterator[JournalEntry]:
        """Yield the entries in the order of their latest intents."""
        for number, page in enumerate(self._pages):
            for place, entry in enumerate(page):
                if self._entries.get(entry.digest) == (number, place):
                    yield entry

    def find(self, digest: str) -> JournalEntry | None:
        """Return a batch's entry; None if there was no intent to post it."""
        place = self._entries.get(digest)
        return self._pages[place[0]][place[1]] if place is not None else None

    def forget(self, *digests: str) -> None:
        """
        Forget batches that were certainly not accepted, or that a changed source no longer has.

        The latter must be forgotten before anything new is posted: if the source changes back, what was sent in between
        may have overwritten their records, so they have to be sent again.
        """
        for page in sorted({self._entries.pop(digest)[0] for digest in digests}):
            self._write(page)

    def intend(self, entry: JournalEntry) -> None:
        """Record that a batch is about to be posted (again): it goes to the end of the journal."""
        before = self._entries.get(entry.digest)
        if before is not None:
            replaced = self._pages[before[0]][before[1]]
            entry = replace(entry, resubmitted=replaced.resubmitted + replaced.in_doubt)
        page = self._append(entry)
        self._write(page)
        if before is not None and before[0] != page:
            self._write(before[0])

    def posted(self, digest: str, async_action_id: str) -> None:
        """Record Voucherify's answer."""
        self._change(digest, async_action_id=async_action_id)

    def rejected(self, async_action_id: str, failed: int | None = None) -> None:
        """
        Record that the next try must send records of an action's batch again.

        :param failed: how many; None for all.
        """
        for entry in self._entries_of(async_action_id):
            self._put(replace(entry, failed=entry.records if failed is None else failed))

    def was_split(self, digest: str, before: JournalEntry | None = None) -> None:
        """
        Record that a batch was too large, so that the next try looks for its halves.

        :param before: its entry before the failed post.
        """
        self._change(digest, split=True, resubmitted=0 if before is None else before.resubmitted)

    def restore(self, entry: JournalEntry) -> None:
        """Restore a batch's entry from before a post that was certainly not accepted."""
        self._put(entry)

    def doubt_action(self, async_action_id: str) -> None:
        """Record that Voucherify does not know an action, so that the next try sends its batch again."""
        for entry in self._entries_of(async_action_id):
            self._put(replace(entry, async_action_id=None, failed=0))

    def _entries_of(self, async_action_id: str) -> list[JournalEntry]:
        return [entry for entry in self if entry.async_action_id == async_action_id]

    def _append(self, entry: JournalEntry) -> int:
        if not self._pages or len(self._pages[-1]) == ENTRIES_PER_PAGE:
            self._pages.append([])
        self._pages[-1].append(entry)
        self._entries[entry.digest] = (len(self._pages) - 1, len(self._pages[-1]) - 1)
        return len(self._pages) - 1

    def _change(self, digest: str, **values: Any) -> None:
        page, place = self._entries[digest]
        self._put(replace(self._pages[page][place], **values))

    def _put(self, entry: JournalEntry) -> None:
        page, place = self._entries[entry.digest]
        self._pages[page][place] = entry
        self._write(page)

    def _write(self, page: int) -> None:
        if self._store is not None:
            entries = [
                list(astuple(entry))
                for place, entry in enumerate(self._pages[page])
                if self._entries.get(entry.digest) == (page, place)
            ]
            head = {
                "version": VERSION,
                "name": self._name,
                "try_number": self._attempt.try_number,
                "max_tries": self._attempt.max_tries,
                "retries": self._attempt.retries,
                "clear_number": self._attempt.clear_number,
                "project": self._project,
            }
            self._store.set(f"{KEY}_{page}", {**head, "entries": entries})

    def _stored_pages(self) -> Iterator[list[JournalEntry]]:
        number = 0
        while self._store is not None and (page := self._store.get(f"{KEY}_{number}")) is not None:
            if number == 0:
                if not isinstance(page, Mapping) or not self._is_ours(page):
                    return
                self._name = page["name"]
                self._project = self._project or page["project"]
            elif not isinstance(page, Mapping) or page.get("name") != self._name:
                return  # left by a longer, earlier journal
            yield self._read(page)
            number += 1

    def _is_ours(self, page: Mapping[str, Any]) -> bool:
        """Say whether a journal counts for this try, by its first page; if not, note why."""
        if page.get("max_tries") != self._attempt.max_tries:
            self.why_unused = "the task was cleared"
            return False
        entries = self._read(page)
        same_try = page["try_number"] == self._attempt.try_number
        if not same_try and page["clear_number"] != self._attempt.clear_number:
            self.why_unused = "tasks of this run were cleared since the last try, perhaps this one"
        elif not same_try and page["retries"] != self._attempt.retries:
            self.why_unused = "the task's retries have changed since the last try, so it may have been cleared"
        elif self._project is not None and page["project"] != self._project:
            self.why_unused = "what an earlier try has sent went to another project"
        self.is_in_doubt = self.why_unused is not None and bool(entries)
        return self.why_unused is None

    @staticmethod
    def _read(page: Mapping[str, Any]) -> list[JournalEntry]:
        try:
            if page["version"] != VERSION:
                raise ValueError(f"version {page['version']}")
            [page[name] for name in ("name", "try_number", "retries", "clear_number", "project")]
            return [JournalEntry(*entry) for entry in page["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise VoucherifyConfigurationError(
                "another version of this package has written down what earlier tries of this task have sent, and this "
                f"version cannot read it ({type(error).__name__}: {error}). Let that version end the task, or clear "
                "the task, which sends everything again"
            ) from error
