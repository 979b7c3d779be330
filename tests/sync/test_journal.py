"""The journal of a task instance: for which tries it counts, and that nothing else is ever taken for it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.sending.journal import ENTRIES_PER_PAGE, Journal, JournalEntry, Try

FIRST = Try(try_number=1, max_tries=2, retries=2, clear_number=0)
RETRY = replace(FIRST, try_number=2)
PROJECT = "https://api.voucherify.io app"


class Store:
    """Airflow's task state store."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return copy.deepcopy(self.values.get(key, default))

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


@pytest.fixture
def store() -> Store:
    """One to which the first try has sent two batches."""
    return written(Store(), FIRST, 2)


def written(store: Store, attempt: Try, batches: int, project: str = PROJECT) -> Store:
    journal = Journal(store, attempt, project)
    for number in range(batches):
        journal.intend(JournalEntry(f"digest {number}", 10))
        journal.posted(f"digest {number}", f"aa_{number}")
    return store


def known(store: Store, attempt: Try, project: str | None = PROJECT) -> list[str | None]:
    return [entry.async_action_id for entry in Journal(store, attempt, project)]


def test_a_retry_knows_what_was_sent(store: Store) -> None:
    assert known(store, RETRY) == ["aa_0", "aa_1"]


@pytest.mark.parametrize(
    ("attempt", "why", "in_doubt"),
    [
        (Try(2, max_tries=3, retries=2, clear_number=1), "the task was cleared", False),
        (Try(2, max_tries=3, retries=2, clear_number=0), "the task was cleared", False),
        # `retries` lowered by as much as there were tries: a clear gives the old sum
        (Try(2, max_tries=2, retries=1, clear_number=1), "tasks of this run were cleared", True),
        (Try(2, max_tries=2, retries=1, clear_number=0), "retries have changed", True),
        # another task of the run was cleared, or this one while it ran
        (Try(2, max_tries=2, retries=2, clear_number=1), "tasks of this run were cleared", True),
    ],
)
def test_after_a_clear_nothing_was_sent(store: Store, attempt: Try, why: str, in_doubt: bool) -> None:
    journal = Journal(store, attempt, PROJECT)

    assert list(journal) == []
    assert why in (journal.why_unused or "")
    assert journal.is_in_doubt is in_doubt


def test_a_task_that_is_resumed_in_the_same_try_was_not_cleared(store: Store) -> None:
    assert known(store, replace(FIRST, clear_number=1)) == ["aa_0", "aa_1"]


def test_a_first_try_has_nothing_to_say(store: Store) -> None:
    journal = Journal(Store(), FIRST, PROJECT)

    assert (list(journal), journal.why_unused, journal.is_in_doubt) == ([], None, False)


def test_what_went_to_another_project_was_not_sent_to_this_one(store: Store) -> None:
    journal = Journal(store, RETRY, "https://api.voucherify.io another-app")

    assert list(journal) == []
    assert (journal.why_unused, journal.is_in_doubt) == ("what an earlier try has sent went to another project", True)
    assert known(store, RETRY, project=None) == ["aa_0", "aa_1"]


def test_who_does_not_know_the_project_leaves_its_name(store: Store) -> None:
    Journal(store, RETRY).doubt_action("aa_1")

    assert known(store, replace(FIRST, try_number=3)) == ["aa_0", None]


def test_pages_of_an_earlier_journal_are_no_part_of_a_later_one() -> None:
    store = written(Store(), FIRST, 2 * ENTRIES_PER_PAGE)
    written(store, FIRST, 1, project="another project")

    written(store, FIRST, ENTRIES_PER_PAGE)

    assert len(known(store, RETRY)) == ENTRIES_PER_PAGE


@pytest.mark.parametrize("version", [1, 2, 99, None, "3"])
def test_another_version_s_journal_is_an_error_and_no_empty_one(store: Store, version: Any) -> None:
    store.values["voucherify_journal_0"]["version"] = version

    with pytest.raises(VoucherifyConfigurationError, match=r"another version of this package.*clear the task"):
        Journal(store, RETRY, PROJECT)


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize(
    "damage",
    [
        lambda page: page["entries"][0].append("one member more"),
        lambda page: page["entries"][0].clear(),
        lambda page: page.pop("entries"),
        lambda page: page.update(entries=None),
    ],
    ids=["more members", "no members", "no entries", "null"],
)
def test_a_journal_that_cannot_be_read_is_an_error(damage: Any, page: int) -> None:
    store = written(Store(), FIRST, ENTRIES_PER_PAGE + 1)
    damage(store.values[f"voucherify_journal_{page}"])

    with pytest.raises(VoucherifyConfigurationError, match="another version of this package"):
        Journal(store, RETRY, PROJECT)


def test_a_clear_ends_the_trouble_with_another_version_s_journal(store: Store) -> None:
    store.values["voucherify_journal_0"] = {"version": 1, "max_tries": 2, "entries": [["digest 0", 10, 1.0]]}

    assert known(store, Try(2, max_tries=3, retries=2, clear_number=1)) == []
