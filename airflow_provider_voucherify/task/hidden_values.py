"""What ``hide_values`` does in a task: ids are hashed by a key of the project, and errors quote no values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import AirflowFailException, AirflowNotFoundException, AirflowSkipException
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyError

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.settings import ConnectionSettings
    from airflow_provider_voucherify.sync.types.hiding import Hiding

LEFT_OUT = "hide_values leaves out what it says, as that may quote values"


def hiding_of(task: Any, settings: ConnectionSettings | None) -> Hiding | None:
    """
    Return how a task's ids and values are hidden; None if they are not.

    :param settings: of the connection; without, there is no key, and ids are left out.
    """
    from airflow_provider_voucherify.client.redaction import without_locals
    from airflow_provider_voucherify.sync.types.hiding import Hiding

    if not task.hide_values:
        return None
    if settings is None:
        return Hiding(None)
    with without_locals():
        return Hiding.of_project(settings.application_id, settings.secret_key.get_secret_value())


@contextmanager
def errors_without_values(task: Any) -> Iterator[None]:
    """
    Let no error out that may quote a value, if the task hides them.

    Errors of this package, of Airflow and of files say nothing of rows; a database's, say, may.
    """
    try:
        yield
    except (VoucherifyError, AirflowFailException, AirflowSkipException, AirflowNotFoundException, OSError):
        raise
    except Exception as error:
        if task.hide_values:
            kind = type(error)
            raise VoucherifyError(f"{kind.__module__}.{kind.__qualname__} was raised; {LEFT_OUT}") from None
        raise


@contextmanager
def reading_without_values(task: Any, *, of_text_files: bool) -> Iterator[None]:
    """
    Do the same while rows are read: of a mistake in them that another library words, or in the first line of a file.

    :param of_text_files: whether the names of columns come from such a line, which may be a row.
    """
    try:
        with errors_without_values(task):
            yield
    except VoucherifyConfigurationError as error:
        if task.hide_values and (of_text_files or error.__context__ is not None):
            raise VoucherifyConfigurationError(f"the rows cannot be read; {LEFT_OUT}") from None
        raise
