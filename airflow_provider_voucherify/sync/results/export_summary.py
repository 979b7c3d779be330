"""What an export says of itself at its end: the XCom value of its operator, and the text of alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from airflow_provider_voucherify.sync.results.summary import FailureReason
from airflow_provider_voucherify.sync.types.text import counted


class ExportSummary(BaseModel):
    """
    What an export was, and where its rows are.

    :param exported_object: such as ``redemption``.
    :param export_id: ``exp_…``, by which the dashboard and the API know it.
    :param status: Voucherify's: ``DONE``.
    :param rows: how many rows the export has, without the header.
    :param bytes: size of the file that Voucherify wrote.
    :param columns: what the columns are called in the file; in a table as ``metadata_tier`` instead of
        ``metadata.tier``.
    :param path: the file with the rows; None for a table.
    :param table: the table with the rows; None for a file.
    :param seconds: from the creation of the export until the rows were written.
    :param resumed: whether an earlier try had created the export.
    :param warning: each limit of ``warn_if`` and ``fail_if`` that is exceeded, in words; None if there is none.
    :param log_url: page of the task's try in Airflow.
    """

    model_config = ConfigDict(frozen=True)

    exported_object: str
    export_id: str
    status: str
    rows: int
    bytes: int
    columns: list[str]
    path: str | None = None
    table: str | None = None
    seconds: float
    resumed: bool = False
    warning: str | None = None
    log_url: str | None = None

    @property
    def page_url(self) -> str | None:
        """There is no page of an export in "Voucherify syncs"."""
        return None

    @property
    def reasons(self) -> Sequence[FailureReason]:
        """No rows of an export fail."""
        return ()

    def as_xcom(self) -> dict[str, Any]:
        """Return a plain dict: Airflow does not deserialize models of classes that it was not told to trust."""
        return self.model_dump(mode="json")

    def without_records(self) -> dict[str, Any]:
        """Return the same: it names no records."""
        return self.as_xcom()

    def text(self, *, link: bool = True) -> str:
        """
        Return what happened in a few lines that fit a chat message or an e-mail.

        :param link: whether the last line is the page of the task's try.
        """
        where = self.path if self.table is None else f"the table {self.table}"
        lines = [
            f"Voucherify export of {self.exported_object} objects: {counted(self.rows, 'row')} in {where} "
            f"({self.bytes:,} bytes, {counted(round(self.seconds), 'second')}, {self.export_id})",
            *(self.warning or "").splitlines(),
        ]
        return "\n".join(lines + ([f"Log: {self.log_url}"] if link and self.log_url else []))
