"""The drift report: a source compared with what Voucherify has, on a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.task.bulk_parameters import is_true, read_back_of, state_of
from airflow_provider_voucherify.task.conclusion import limits_of
from airflow_provider_voucherify.task.drift_run import report_drift
from airflow_provider_voucherify.task.parameters import Wrong, mistakes_of

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context

_ONLY_SENDING = {"wait_for_completion": True, "is_dry_run": False}
"""Parameters that say how records are sent, and what they are if nobody has said anything."""


class VoucherifyReconcileOperator(VoucherifyBulkUpdateOperator):
    """
    Says what differs between a source and Voucherify, and sets it right if it is told to.

    Reads and checks the rows as ``VoucherifyBulkUpdateOperator`` does, reads back by an export what Voucherify has of
    their fields (a few API calls, however many records there are; with OAuth that needs the scope ``exports``), and
    compares them as ``sync.comparison.values`` says. Without ``repair`` nothing is sent.

    Returns the summary: of the rows ``verified`` are the same at Voucherify, ``differing`` are otherwise and
    ``missing`` are not there; together with ``refused`` and ``superseded`` that is ``rows_read``. ``not_in_source`` are
    records that Voucherify has and that no valid row has; None with ``sample``. ``preview`` has the first
    differences, and ``differences.jsonl`` of ``report_path`` has ten thousand of them.

    A report succeeds and warns if anything is differing or missing, which calls ``on_failed_records_callback`` too.
    ``differing`` of ``fail_if`` says beyond how many it fails, that of ``warn_if`` beyond how many it warns. Rows that
    are refused fail it, as they fail an update.

    The export is waited for on the worker, for ``completion_timeout`` at most. A retry compares anew.

    With ``repair=True`` the task is a ``VoucherifyBulkUpdateOperator`` with ``read_back={"compare": True}``: it sends
    what is differing or missing, and nothing else, and has that operator's summary. Records that are not in the source
    are left alone in any case. All other parameters and the errors are those of that operator too; a report takes none
    of those that are about sending alone: ``verify`` and ``sync_mode`` of ``read_back``, ``on_removed`` and
    ``max_removed_ratio`` of ``state``, ``wait_for_completion=False``, ``dry_run``, and ``created``, ``not_reported``
    and ``newer_runs`` of the limits. In ``state`` it keeps its history, and leaves what syncs have confirmed as it is.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param repair: send what differs; may be a template, such as ``{{ params.repair }}``. If it is one, the parameters
        about sending may be given, and only a repair follows them.
    """

    template_fields: Sequence[str] = (*VoucherifyBulkUpdateOperator.template_fields, "repair")

    def __init__(self, *, resource: str, repair: bool | str = False, **kwargs: Any) -> None:
        super().__init__(resource=resource, **{"read_back": {"compare": True}} | kwargs)
        self.repair = repair
        self.may_repair = isinstance(repair, str) or repair is True

    @property
    def only_compares(self) -> bool:
        """Whether nothing is sent, whatever differs."""
        with suppress(VoucherifyConfigurationError):  # which the check of the parameters raises
            return not is_true("repair", self.repair)
        return False

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, and report or repair; see the class for what is returned and raised."""
        return report_drift(self, self._run(context)) if self.only_compares else super().execute(context)

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        yield from super()._wrong(is_known)
        if is_known("read_back"):
            with suppress(VoucherifyConfigurationError):
                yield from self._wrong_read_back()
        if self.full_refresh is not False:
            yield Wrong("full_refresh= sends every row without comparing it: use VoucherifyBulkUpdateOperator for that")
        if not is_known("repair"):
            return
        yield from mistakes_of(is_true, "repair", self.repair)
        if not self.may_repair:
            yield from self._wrong_for_a_report(is_known)

    def _wrong_read_back(self) -> Iterator[Wrong]:
        given = read_back_of(self)
        if not given.compare:
            yield Wrong("this operator always compares: read_back needs compare=True, or may be left out")
        if not self.may_repair and given.given.keys() - {"compare"}:
            yield Wrong("read_back needs repair=True for more than compare: a report sends nothing", ("repair=True,",))

    def _wrong_for_a_report(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        """Say which parameters would have no effect."""
        for name, unset in _ONLY_SENDING.items():
            if getattr(self, name) != unset:
                yield Wrong(f"{name.removeprefix('is_')}= needs repair=True: a report sends nothing", ("repair=True,",))
        with suppress(VoucherifyConfigurationError):
            state = state_of(self) if is_known("state") else None
            for name in ("on_removed", "max_removed_ratio"):
                if state is not None and name in state.given:
                    yield Wrong(f"{name} of state needs repair=True: a report sends nothing", ("repair=True,",))
        for parameter in filter(is_known, ("fail_if", "warn_if")):
            with suppress(VoucherifyConfigurationError):
                given = limits_of(self, parameter).given
                for name in ("created", "not_reported", "newer_runs"):
                    if given.get(name) is not None:
                        yield Wrong(f"{name} of {parameter} needs repair=True: a report sends nothing")
