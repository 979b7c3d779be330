"""What a trigger's event returns to the task that resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from airflow_provider_voucherify.models.errors import VoucherifyCompletionTimeoutError, VoucherifyError

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync


class Resumption(NamedTuple):
    """
    What a task knows when it resumes.

    :param status: ``finished`` or ``unreachable``.
    :param staged: the name of what was staged when the task was deferred; None if nothing was.
    :param after_rate_limit: whether the task was deferred for a rate limit on fetching results.
    """

    status: str
    message: str | None
    sync: SubmittedSync
    end_time: float
    staged: str | None
    after_rate_limit: bool

    @classmethod
    def read(cls, event: dict[str, Any] | None) -> Self:
        """
        Read an event; one that cannot be understood must not count as success.

        If an earlier version of this package deferred the task, the ids are in its state.

        :raises VoucherifyError: it cannot be understood.
        """
        from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
        from airflow_provider_voucherify.triggers.async_action import EVENT_VERSION

        if not isinstance(event, dict) or not isinstance(state := event.get("state"), dict):
            raise VoucherifyError(f"the trigger's event cannot be understood: {event!r:.200}")
        status = event.get("status")
        if event.get("version") not in (1, EVENT_VERSION) or status not in ("finished", "timeout", "unreachable"):
            raise VoucherifyError(
                f"the trigger's event has version {event.get('version')!r} and status {status!r}, which this version "
                "of the provider does not know; triggerer and workers must run the same one"
            )
        sync = SubmittedSync.from_json(state["sync"], event.get("async_action_ids", []))
        end_time, staged = float(state["end_time"]), state.get("staged")
        return cls(status, event.get("message"), sync, end_time, staged, bool(state.get("held")))

    def check_in_time(self) -> None:
        """
        Check that the trigger has not given up.

        :raises VoucherifyCompletionTimeoutError: it has.
        """
        if self.status == "timeout":
            raise timeout(self.message or "time is up")


def timeout(why: str) -> VoucherifyCompletionTimeoutError:
    """Return the error of a task whose time is up."""
    return VoucherifyCompletionTimeoutError(f"{why}; it continues at Voucherify, whose API has no way to cancel it")
