"""The statements that are about many rows of the state's table, in the words of each database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_provider_voucherify.warehouse.bulk_load import Dialect
from airflow_provider_voucherify.warehouse.staging_table import Staged

STAGED = (
    *("record_key", "record_id", "settings", "digest", "failed_digest", "attempts", "outcome", "reason_key"),
    *("message", "run_name", "changed_at", "confirmed_at", "failing_since", "fields", "not_cleared", "content"),
)
"""The columns that a run writes of each record; the others are the same for all."""

AS_READ = (
    *("record_id", "settings", "digest", "failed_digest", "attempts", "outcome", "reason_key", "message"),
    *("run_name", "confirmed_at", "fields", "not_cleared", "failing_since"),
)
"""The columns that a run reads of each record."""

IN_ORDER: dict[Dialect, str] = {
    **dict.fromkeys(("postgres", "sqlite", "duckdb"), ""),
    "mysql": "order by cast(record_id as binary)",
    "other": "order by record_id",
}
"""
What gives records nearly in the order of their ids' bytes, in which they take the ledger the least time to load.

A first night writes them so, and some databases give rows as they were written; MySQL gives them by their key.
"""

OF_SYNC = ("sync_key", "sync_name", "resource", "sent_by")
"""The columns that are the same for all records of a run."""

_IS_MARKED = "{0}outcome = 'removed' and {0}reason_key = 'marked'"
_SAYS_WHAT_IS_THERE = f"({{0}}digest is not null or ({_IS_MARKED}))"
"""Whether a run that comes later believes what a state says of Voucherify."""


@dataclass(frozen=True, slots=True)
class Merge:
    """
    What is the same for all rows of a merge.

    :param of_sync: key and name of the sync, and the resource.
    :param run: the run that writes.
    :param contested: what ``sent_by`` has instead, in rows that another run has been about to send and that say what is
        at Voucherify. No run has that name.
    :param keep_values: keep the content that was confirmed last in rows that come without one.
    """

    of_sync: tuple[str, str, str]
    run: str
    contested: str
    keep_values: bool


@dataclass(frozen=True, slots=True)
class Statements:
    """
    The statements about a table.

    :param table: its name.
    :param mark: what stands for a value.
    """

    table: str
    mark: str
    dialect: Dialect

    def find_any(self) -> str:
        """Select null if a sync has no rows."""
        return f"select max(sync_key) from {self.table} where sync_key = {self.mark}"  # noqa: S608

    def doubt(self, staged: Staged) -> str:
        """Take the confirmation from records: of a run."""
        if self.dialect == "mysql":  # which may look at every row of the table for a subquery, and lock it
            return (
                f"update {staged.source} t straight_join {self.table} s on s.record_key = t.record_key "  # noqa: S608
                f"set s.digest = null, s.sent_by = {self.mark}"
            )
        return (
            f"update {self.table} set digest = null, sent_by = {self.mark} "  # noqa: S608
            f"where record_key in (select record_key from {staged.source} t)"
        )

    def count_sent_by_others(self, staged: Staged) -> str:
        """Count the records that another than a run was the last to be about to send: of that run."""
        return f"select count(*) {self._of_others(staged)}"

    def sent_by_others(self, staged: Staged) -> str:
        """Select their ids."""
        return f"select s.record_id {self._of_others(staged)}"

    def count_contested(self) -> str:
        """Count the records that ``merge`` has found to be contested: of a sync and a ``Merge.contested``."""
        return f"select count(*) from {self.table} where sync_key = {self.mark} and sent_by = {self.mark}"  # noqa: S608

    def merge(self, staged: Staged, merge: Merge) -> Iterator[tuple[str, list[str]]]:
        """Give statements that write rows of ``STAGED`` into the table, each with its values."""
        if self.dialect == "other":
            yield from self._replace(staged, merge)
            return
        columns = ", ".join([*OF_SYNC, *STAGED])
        selected = ", ".join([*[self.mark] * len(OF_SYNC), *(f"t.{name}" for name in STAGED)])
        target = self.table if self.dialect == "mysql" else f"{self.table} as s"
        insert = (
            f"insert into {target} ({columns}) select {selected} "  # noqa: S608
            f"from {staged.source} t where 1 = 1 "
        )
        old, new = (f"{self.table}.", "t.") if self.dialect == "mysql" else ("s.", "excluded.")
        clause = "duplicate key update" if self.dialect == "mysql" else "conflict (record_key) do update set"
        is_of_other = f"({old}sent_by is null or {old}sent_by <> {self.mark})"
        assigned = {name: f"{new}{name}" for name in STAGED[1:]}
        assigned["digest"] = f"case when {is_of_other} then null else {new}digest end"
        assigned["reason_key"] = (
            f"case when {is_of_other} and {_IS_MARKED.format(new)} then 'reported' else {new}reason_key end"
        )
        if merge.keep_values:
            assigned["content"] = f"coalesce({new}content, {old}content)"
        # The last: MySQL assigns one after the other.
        assigned["sent_by"] = (
            f"case when {is_of_other} and {_SAYS_WHAT_IS_THERE.format(new)} then {self.mark} else {self.mark} end"
        )
        assignments = ", ".join(f"{name} = {value}" for name, value in assigned.items())
        values = [*merge.of_sync, *[merge.run] * 4, merge.contested, merge.run]
        in_order = "order by t.record_key " if self.dialect == "mysql" else ""  # by which it keeps rows
        yield f"{insert}{in_order}on {clause} {assignments}", values

    def _replace(self, staged: Staged, merge: Merge) -> Iterator[tuple[str, list[str]]]:
        """Give the same for databases of which nothing but the standard is known; the rows staged are changed, too."""
        rows, staging, mark = staged.where, staged.table, self.mark
        of_others = f"(select record_key from {self.table} where sent_by is null or sent_by <> {mark})"  # noqa: S608
        yield (
            f"update {staging} set sent_by = {mark} "  # noqa: S608
            f"where {rows} and {_SAYS_WHAT_IS_THERE.format('')} and record_key in {of_others}",
            [merge.contested, merge.run],
        )
        if merge.keep_values:
            of_same = f"select s.content from {self.table} s where s.record_key = {staging}.record_key"  # noqa: S608
            have_one = f"select record_key from {self.table} where content is not null"  # noqa: S608
            yield (
                f"update {staging} set content = ({of_same}) "  # noqa: S608
                f"where {rows} and content is null and record_key in ({have_one})",
                [],
            )
        yield f"delete from {self.table} where record_key in (select record_key from {staging} where {rows})", []  # noqa: S608
        selected = {name: name for name in STAGED}
        selected["digest"] = "case when sent_by is null then digest end"
        selected["reason_key"] = (
            f"case when sent_by is not null and {_IS_MARKED.format('')} then 'reported' else reason_key end"
        )
        values = ", ".join([*[mark] * 3, f"coalesce(sent_by, {mark})", *selected.values()])
        yield (
            f"insert into {self.table} ({', '.join([*OF_SYNC, *STAGED])}) "  # noqa: S608
            f"select {values} from {staging} where {rows}",
            [*merge.of_sync, merge.run],
        )

    def _of_others(self, staged: Staged) -> str:
        return (
            f"from {staged.source} t join {self.table} s on s.record_key = t.record_key "
            f"where s.sent_by is null or s.sent_by <> {self.mark}"
        )
