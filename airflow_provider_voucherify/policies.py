"""
Parameters that belong together, each as one value with its own checks: ``Limits``, ``Requests``, ``ReadBack`` and
``State``.

A task takes a dict with the same members in the place of a value, so that DAGs made from YAML need no import::

    VoucherifyBulkUpdateOperator(..., fail_if=Limits(failed=100), requests=Requests(max_in_flight=4))
    VoucherifyBulkUpdateOperator(..., fail_if={"failed": 100}, requests={"max_in_flight": 4})

Templates in a value are rendered (a number needs ``render_template_as_native_obj=True`` in the DAG), and the rendered
fields of a task show the members that were given. What another task returns goes into a dict.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from airflow_provider_voucherify.models.endpoints import MAX_BODY_BYTES
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, refuse_all
from airflow_provider_voucherify.models.numbers import mistake_in_number
from airflow_provider_voucherify.models.spelling import did_you_mean


class DefaultLimit(int):
    """A limit that nobody has given: another limit that somebody gives takes its place."""


TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*){0,2}")
"""Of a table's name, perhaps after a schema and a database."""

_MAX_TABLE = 40
"""Characters of the beginning of a table's name: PostgreSQL cuts longer names of indexes, so that they would clash."""

MAX_DAYS = 36_500
"""A hundred years, which every database can reckon with."""

_KEY = re.compile(r"[a-z][a-z0-9_.]{0,99}")
"""Of a reason, Voucherify's or ours."""

UNLESS_GIVEN = DefaultLimit(0)
"""None at all, where that is the default; unlike a 0 that somebody gives it may mean no limit, or give way."""


class Policy:
    """What all values share. A subclass is a frozen dataclass whose members have defaults."""

    @classmethod
    def of(cls, parameter: str, given: Self | Mapping[str, Any] | None) -> Self:
        """
        Return a parameter as a value.

        :param parameter: its name, for messages.
        :param given: a value, its members by name, or None for the defaults.
        :raises VoucherifyConfigurationError: it is something else, has members that there are not, or wrong ones.
        """
        if given is None:
            return cls()
        if isinstance(given, cls):
            given._check(parameter)
            return given
        if not isinstance(given, Mapping):
            raise VoucherifyConfigurationError(
                f"{parameter} must be {cls.__name__}(...) or a dict of its members, not {given!r:.100}"
            )
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for name in given:
            if name not in names:
                hint = did_you_mean(str(name), names) or f"; it has {', '.join(names)}"
                raise VoucherifyConfigurationError(f"{parameter} has no {name!r}{hint}")
        value = cls(**given)
        value._check(parameter)
        return value

    def _check(self, parameter: str) -> None:
        refuse_all(self._mistakes(parameter))

    def _mistakes(self, parameter: str) -> Iterator[str]:
        yield from ()

    def __post_init__(self) -> None:
        refuse_all(
            f"{name} of {type(self).__name__} comes from another task: give a dict instead, in which Airflow looks for "
            "what a task depends on"
            for name, value in self.given.items()
            if any(hasattr(leaf, "iter_references") for leaf in leaves(value))
        )

    @property
    def given(self) -> dict[str, Any]:
        """The members that are not the default."""
        members = ((field, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return {
            field.name: value
            for field, value in members
            if not (value is field.default or (value == field.default and type(value) is type(field.default)))
        }

    def rendered(self, render: Callable[[Any], Any]) -> Self:
        """Return the same value with its templates rendered."""
        return replace(self, **{name: render(value) for name, value in self.given.items()})  # type: ignore[type-var]

    def serialize(self) -> dict[str, Any]:
        """Return what Airflow shows among a task's rendered fields."""
        return self.given

    def __repr__(self) -> str:
        """Return it as it would be written."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.given.items())})"


def leaves(value: Any) -> Iterator[Any]:
    """Give what is in a dict, a list or the like, or a ``Policy``, at any depth; anything else is a leaf itself."""
    if isinstance(value, Policy):
        value = value.given
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@dataclass(frozen=True, repr=False)
class Limits(Policy):
    """
    How many rows may fail, be created, or be left out: ``fail_if=`` fails a task beyond them, ``warn_if=`` warns.

    Each number is the largest that is still allowed, but that of ``rows_below``; None for any number. All limits that
    are exceeded are reported.

    :param failed: rows that failed or were refused: neither is in Voucherify. Default: 0 for ``fail_if``, unless
        ``failed_ratio`` is given; None for ``warn_if``.
    :param failed_ratio: part of the rows that were sent or refused (0 to 1) that failed or was refused. Rows that were
        not sent since they have not changed do not count: they would hide that all others fail.
    :param created: records that were created: a mistyped key creates a customer instead of failing. If Voucherify does
        not tell created from updated records, those that it does tell count, and a warning says so.
    :param not_reported: records that were sent although no answer says what became of them.
    :param superseded: rows that were left out because a later row has the same id. Without a limit ``warn_if`` warns
        if it is half of the rows or more, as with a wrong key column.
    :param newer_runs: later runs of the same task that may have sent their rows already, which this one would
        overwrite with older ones. Retries and clears check this, and from their first try on backfills, manual runs,
        and runs of a DAG with ``catchup``. Default: None for ``fail_if``, which fails before anything is sent, and 0
        for ``warn_if``.
    :param expected_keys: keys of reasons (as ``failures_by_key`` of the summary has them) for which rows may fail or be
        refused: such rows do not count in ``failed`` and ``failed_ratio``. ``["not_found"]`` suits vouchers some of
        which do not exist yet. They are still counted in the summary, and listed in one line. With a ``state`` they are
        sent again every time, however often they have failed (``max_attempts`` of ``Requests``).
    :param differing: records that were read back (``verify``) and are missing at Voucherify, or otherwise than they
        were sent. Default: 0 for ``fail_if``; None for ``warn_if``. Of a drift report, rows whose record is missing or
        otherwise. Default: None for ``fail_if``; 0 for ``warn_if``.
    :param rows_below: of an export, the fewest rows that it may have; 1 for any that is not empty.
    """

    failed: int | None = UNLESS_GIVEN
    failed_ratio: float | None = None
    created: int | None = None
    not_reported: int | None = None
    superseded: int | None = None
    newer_runs: int | None = UNLESS_GIVEN
    expected_keys: Collection[str] = ()
    differing: int | None = UNLESS_GIVEN
    rows_below: int | None = None

    @property
    def counts_failed(self) -> bool:
        """Whether there is a limit for failed and refused rows."""
        return self.failed is not None or self.failed_ratio is not None

    def _mistakes(self, parameter: str) -> Iterator[str]:
        yield from _mistakes_in_keys(f"expected_keys of {parameter}", self.expected_keys)
        for name, limit in self.given.items():
            if limit is not None and name != "expected_keys":
                most = 1 if name == "failed_ratio" else None
                yield from mistake_in_number(f"{name} of {parameter}", limit, 0, most)

    @property
    def to_fail(self) -> Limits:
        """The same with the defaults of ``fail_if``."""
        failed: int | None = self.failed
        if isinstance(failed, DefaultLimit):
            failed = 0 if self.failed_ratio is None else None
        differing = None if self.differing is None else int(self.differing)
        return replace(self, failed=failed, differing=differing, newer_runs=_none_if_default(self.newer_runs))

    @property
    def to_warn(self) -> Limits:
        """The same with the defaults of ``warn_if``."""
        newer_runs = None if self.newer_runs is None else int(self.newer_runs)
        failed, differing = _none_if_default(self.failed), _none_if_default(self.differing)
        return replace(self, failed=failed, differing=differing, newer_runs=newer_runs)


def _mistakes_in_keys(name: str, keys: Any) -> Iterator[str]:
    if not isinstance(keys, list | tuple):
        yield f"{name} must be a list of keys, such as ['not_found'], not {keys!r:.100}"
        return
    for key in keys:
        if key in ("failed", "refused", "other"):
            yield f"{name}: {key!r} is not the key of a reason, such as 'not_found'"
        elif not isinstance(key, str) or not _KEY.fullmatch(key):
            word = re.sub(r"[^a-z0-9]+", "_", str(key).lower()).strip("_")
            hint = f": did you mean {word!r}?" if _KEY.fullmatch(word) else ""
            yield f"{name}: {key!r:.100} is not the key of a reason, such as 'not_found'{hint}"


def _none_if_default(limit: int | None) -> int | None:
    return None if isinstance(limit, DefaultLimit) else limit


@dataclass(frozen=True, repr=False)
class Requests(Policy):
    """
    How records are packed into requests, and how often each is sent.

    :param max_bytes: largest request body, in bytes; the API takes 10,485,760.
    :param max_records: most records in a request; None for as many as fit, which takes the fewest requests.
    :param max_in_flight: most request bodies that are sent at the same time. Each takes little memory, since it is
        read from disk; more than two only helps if single uploads are slow.
    :param max_attempts: records that Voucherify has refused so often are not sent again: with a ``state`` as long as
        their content is the same, and lines of a ``failures.jsonl`` for good. They go into ``set_aside.jsonl``. None
        for no such limit.
    """

    max_bytes: int = MAX_BODY_BYTES
    max_records: int | None = None
    max_in_flight: int = 2
    max_attempts: int | None = 5

    def _mistakes(self, parameter: str) -> Iterator[str]:
        yield from mistake_in_number(f"max_bytes of {parameter}", self.max_bytes, 1, MAX_BODY_BYTES)
        yield from mistake_in_number(f"max_in_flight of {parameter}", self.max_in_flight, 1)
        for name in ("max_records", "max_attempts"):
            if (value := getattr(self, name)) is not None:
                yield from mistake_in_number(f"{name} of {parameter}", value, 1)


@dataclass(frozen=True, repr=False)
class ReadBack(Policy):
    """
    What is read back from Voucherify: what it has before something is sent, and what it has afterwards.

    Either is one export (``POST /v1/exports``) for all records, however many there are: three API calls and the polls
    between them, before something is sent also a look at what is still queued, and with OAuth the scope ``exports``.
    ``sync.comparison.values`` says how values compare.

    :param compare: send only what differs from what Voucherify has, of the fields that the rows have. So what has been
        changed in the dashboard is set right, what is not sent is known to be there, what is created is known, and
        ``dry_run`` says what would change.
    :param sync_mode: ``upsert``; ``update`` refuses rows whose record Voucherify does not have (key ``not_found``)
        instead of creating it, and ``create`` those whose record it has otherwise (``already_exists``).
    :param verify: ``all`` reads back what was sent, once it is processed, and counts the records that are ``verified``,
        ``differing`` or ``missing``; a number reads so many of them, chosen at random, by a call each. What is not as
        it was sent is in ``differences.jsonl`` of ``report_path``, and fails the task, unless ``differing`` of
        ``fail_if`` allows it.
    """

    compare: bool = False
    sync_mode: Literal["upsert", "update", "create"] = "upsert"
    verify: Literal["all"] | int | None = None

    @property
    def looks_first(self) -> bool:
        """Whether it matters before sending what Voucherify has."""
        return self.compare or self.sync_mode != "upsert"

    def _mistakes(self, parameter: str) -> Iterator[str]:
        if not isinstance(self.compare, bool):
            yield f"compare of {parameter} must be True or False, not {self.compare!r:.100}"
        if self.sync_mode not in ("upsert", "update", "create"):
            yield f"sync_mode of {parameter} must be 'upsert', 'update' or 'create', not {self.sync_mode!r:.100}"
        if self.verify not in (None, "all"):
            if isinstance(self.verify, str):
                yield f"verify of {parameter} must be 'all', a number of records, or None, not {self.verify!r:.100}"
            else:
                yield from mistake_in_number(f"verify of {parameter}", self.verify, 1)


@dataclass(frozen=True, repr=False)
class State(Policy):
    """
    Where a sync keeps what it remembers, and what it does about records that have left the source.

    What it remembers: what Voucherify has confirmed of each record, so that only rows that have changed are sent; what
    became of the rows; and, while the task is deferred, what was sent. ``state="warehouse"`` is short for
    ``State(conn_id="warehouse")``, and a text with a slash, such as ``state="s3://bucket/voucherify"``, for
    ``State(path=...)``.

    :param conn_id: a database, of any connection whose hook is a ``DbApiHook``: it gets tables, see
        ``warehouse.outcome_tables``.
    :param table: what the names of these tables begin with, optionally after a schema and a dot.
    :param path: or a folder, local or in object storage, that all workers share: each sync has a folder of its own in
        it, with a file ``state`` of about 50 bytes for each record.
    :param outcomes: in a folder, also keep the outcome of every row (``sync.types.outcome.RowOutcome``) in a file
        ``outcomes/<run id>/try=<number>.<id>.<format>`` for each try: ``jsonl``, ``csv`` or ``parquet``; None for none.
        A database always has the outcomes, in the table ``…_changelog``.
    :param sync_name: names the sync. Tasks of the same name and resource share the state of their records, and have to
        send the same records. Default: the DAG's and the task's id. One task at a time may use a state.
    :param on_removed: what is done about records that earlier syncs had and the source no longer has: ``ignore``,
        ``report`` (once, as outcome ``removed``), or ``{"metadata": {...}}`` to mark them so, since Voucherify has no
        bulk delete. Marking a customer or product that was deleted at Voucherify creates it anew. A mapped task cannot
        mark, and reports only with a ``sync_name`` that ``expand`` or ``expand_kwargs`` gives each of its instances (a
        mapped task group cannot report). Nothing counts as removed if the source is empty, has rows without an id, or
        is a ``sample``.
    :param max_removed_ratio: if a larger part of the records that Voucherify has (0 to 1) leaves the source at once,
        the source is more likely not whole, and none is taken for removed; the summary's ``warning`` says so. None for
        any part.
    :param keep_values: also keep the JSON that was sent of each record: in the changelog, and of what Voucherify
        confirmed last in the state, to tell which values a record had when. It is personal data of your customers.
        Records that do not change have none until they are sent again, e.g. by a ``full_refresh``.
    :param keep_days: in a database, how long the lines of the changelog are kept, in days; each sync deletes its own
        that are older. None for ever, as the runs are. In a folder files stay until somebody, or a lifecycle rule of
        the object store, removes them.
    """

    conn_id: str | None = None
    path: str | os.PathLike[str] | None = None
    table: str = "voucherify"
    outcomes: Literal["jsonl", "csv", "parquet"] | None = None
    sync_name: str | None = None
    on_removed: Literal["ignore", "report"] | Mapping[str, Any] = "ignore"
    max_removed_ratio: float | None = 0.5
    keep_values: bool = False
    keep_days: int | None = 90

    @classmethod
    def of(cls, parameter: str, given: Any) -> Self:
        """Return a parameter as a value: see the class for what a text stands for."""
        if isinstance(given, str):
            if not given.strip():
                raise VoucherifyConfigurationError(f"{parameter} is empty")
            given = {"path": given} if "/" in given else {"conn_id": given}
        elif isinstance(given, os.PathLike):
            given = {"path": given}
        return super().of(parameter, given)

    @property
    def marks_removed(self) -> bool:
        """Whether records that have left the source get metadata that says so."""
        return isinstance(self.on_removed, Mapping)

    def _mistakes(self, parameter: str) -> Iterator[str]:
        if bool(self.conn_id) == bool(self.path):
            yield f"{parameter} needs conn_id (a database) or path (a folder), and not both"
        if self.sync_name is not None and not (isinstance(self.sync_name, str) and self.sync_name.strip(". ")):
            yield f"sync_name of {parameter} must be a name, not {self.sync_name!r:.100}"
        if not (isinstance(self.table, str) and TABLE.fullmatch(self.table)):
            yield f"table of {parameter} must be the beginning of a table's name, not {self.table!r:.100}"
        elif len(self.table.rpartition(".")[2]) > _MAX_TABLE:
            yield f"table of {parameter} may have {_MAX_TABLE} characters without the schema, not {self.table!r:.100}"
        if self.outcomes not in (None, "jsonl", "csv", "parquet"):
            yield f"outcomes of {parameter} must be 'jsonl', 'csv', 'parquet' or None, not {self.outcomes!r:.100}"
        elif self.outcomes and self.conn_id:
            yield f"outcomes of {parameter} is for a folder: a database has them in a table"
        marks = isinstance(self.on_removed, Mapping) and isinstance(self.on_removed.get("metadata"), Mapping)
        if self.on_removed not in ("ignore", "report") and not (marks and len(self.on_removed) == 1):
            yield f"on_removed of {parameter} must be 'ignore', 'report' or {{'metadata': {{...}}}}"
        if self.keep_days is not None:
            yield from mistake_in_number(f"keep_days of {parameter}", self.keep_days, 1, MAX_DAYS)
        if self.max_removed_ratio is not None:
            yield from mistake_in_number(f"max_removed_ratio of {parameter}", self.max_removed_ratio, 0, 1)
        if not isinstance(self.keep_values, bool):
            yield f"keep_values of {parameter} must be True or False, not {self.keep_values!r:.100}"
