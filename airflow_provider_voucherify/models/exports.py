"""
Exports, as Voucherify returns them, without the token that a file's address has.

Whoever has that token and the keys can read the file, and a value that a task returns is stored. So the models have no
token, and ``VoucherifyClient.download_export`` asks for a fresh address each time.

Source: documentation/openapi/exports.json of the vendor.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from airflow_provider_voucherify.models.records import Record
from airflow_provider_voucherify.models.tolerant import Count, Text, Word

_USER = re.compile(r"//[^/?#]*@")


def _without_token(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return _USER.sub("//", re.split(r"[?#]", value)[0])


class ExportResult(Record):
    """
    Where the file of an export is.

    :param url: its address without query, fragment and user, which may hold a token. It cannot be fetched like this.
    """

    url: Annotated[str | None, BeforeValidator(_without_token)] = None


class Export(Record):
    """
    An export: a job of Voucherify's that writes one CSV file.

    :param id: ``exp_…``.
    :param status: ``SCHEDULED``, ``IN_PROGRESS``, ``DONE`` or ``ERROR``; any other word counts as "not finished".
    :param channel: how it was created: ``API``, or ``WEBSITE`` in the dashboard.
    :param exported_object: such as ``customer``.
    :param parameters: what was asked for: ``order``, ``fields``, ``filters``.
    :param result: set once there is a file.
    :param user_id: who created it in the dashboard.
    :param created_at: ISO-8601 time.
    """

    id: str = Field(pattern=r"^[!-~]+$")
    object: Text = None
    created_at: Text = None
    status: Word = None
    channel: Word = None
    exported_object: Word = None
    parameters: dict[str, Any] | None = None
    result: ExportResult | None = None
    user_id: Word = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("DONE", "ERROR")

    @property
    def has_failed(self) -> bool:
        """Whether there will be no file. Voucherify does not say why."""
        return self.status == "ERROR"


class ExportList(Record):
    """
    One page of ``GET /v1/exports``.

    :param total: number of all exports.
    """

    exports: list[Export]
    total: Count = None


class ExportFile(BaseModel):
    """
    The address of an export's file, token included; only ``VoucherifyClient.download_export`` asks for it.

    :param url: None until there is a file.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Word = None
    exported_object: Word = None
    url: SecretStr | None = None
