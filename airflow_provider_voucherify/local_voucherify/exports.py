"""
Exports: their status, which is a function of the clock, and the tokens of their files.

Fields and words are the contract's. Ours, since the vendor is silent: an export has the objects as they were when it
was created; it is ``SCHEDULED`` for the first quarter of its time; each look at a finished one gives a URL with a
fresh token; no order means the order of creation.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from airflow_provider_voucherify.local_voucherify.actions import wire_time
from airflow_provider_voucherify.local_voucherify.export_files import ExportedFile
from airflow_provider_voucherify.local_voucherify.options import Options

ExportStatus = Literal["SCHEDULED", "IN_PROGRESS", "DONE", "ERROR"]

_SCHEDULED_FOR = 0.25
"""Part of an export's time in which it is scheduled."""

_MAX_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class ExportScript:
    """
    How the next export departs from what would be.

    :param status: ``ERROR``, or an unfinished status that it keeps for ever; None for the usual.
    :param seconds: how long it takes, None for what the options say.
    """

    status: ExportStatus | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse a word that is no status."""
        if self.status is not None and self.status not in get_args(ExportStatus):
            raise ValueError(f"status must be one of {get_args(ExportStatus)}, not {self.status!r}")


@dataclass(frozen=True, slots=True)
class Export:
    """
    One export.

    :param created_at: in seconds since the epoch, to the millisecond.
    :param seconds: that it takes.
    """

    id: str
    created_at: float
    seconds: float
    script: ExportScript
    file: ExportedFile

    def status(self, now: float) -> ExportStatus:
        """Return the status at a time."""
        if self.script.status in ("SCHEDULED", "IN_PROGRESS"):
            return self.script.status
        passed = now - self.created_at
        if passed >= self.seconds:
            return self.script.status or "DONE"
        return "SCHEDULED" if passed < self.seconds * _SCHEDULED_FOR else "IN_PROGRESS"

    def wire(self, status: ExportStatus, url: str | None) -> dict[str, Any]:
        """
        Return the export as the API shows it.

        :param url: of the file, None if there is none.
        """
        return {
            "id": self.id,
            "object": "export",
            "created_at": wire_time(self.created_at),
            "status": status,
            "channel": "API",
            "exported_object": self.file.request.exported.name,
            "parameters": dict(self.file.request.shown),
            "result": None if url is None else {"url": url},
            "user_id": None,
        }


class Exports:
    """The exports of a project, oldest first. The project's lock guards it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._exports: dict[str, Export] = {}
        self._scripts: deque[ExportScript] = deque()
        self._secret = secrets.token_bytes(32)
        self.tokens: deque[str] = deque(maxlen=_MAX_TOKENS)
        """Those that were given out last."""
        self.url = ""
        """The URL that ids of exports are appended to for their files."""

    def script_next(self, script: ExportScript, times: int) -> None:
        """Let the next ``times`` exports follow a script."""
        self._scripts.extend([script] * times)

    def add(self, file: ExportedFile, now: float) -> Export:
        """Create an export."""
        script = self._scripts.popleft() if self._scripts else ExportScript()
        seconds = self._options.export_seconds if script.seconds is None else script.seconds
        export = Export(
            f"exp_{secrets.token_urlsafe(18).replace('-', 'a').replace('_', 'b')}",
            math.floor(now * 1000) / 1000,
            seconds,
            script,
            file,
        )
        self._exports[export.id] = export
        return export

    def get(self, export_id: str) -> Export | None:
        """Return an export, None for an unknown id."""
        return self._exports.get(export_id)

    def remove(self, export_id: str) -> bool:
        """Forget an export; False when there is none."""
        return self._exports.pop(export_id, None) is not None

    def ordered(self, order: str, now: float) -> list[Export]:
        """Return all exports by ``created_at`` or ``status``; ties come in the order of creation."""
        exports: Iterable[Export] = self._exports.values()
        if order.removeprefix("-") == "status":
            return sorted(exports, key=lambda export: export.status(now), reverse=order.startswith("-"))
        return list(reversed(self._exports.values())) if order.startswith("-") else list(exports)

    def shown(self, export: Export, now: float) -> dict[str, Any]:
        """Return an export as the API shows it, with a new URL once it is done."""
        status = export.status(now)
        return export.wire(status, self._url_of(export, now) if status == "DONE" else None)

    def file(self, export_id: str, token: str, now: float) -> ExportedFile | None:
        """Return the file that a token is for; None for another token, or one whose time is over."""
        export = self._exports.get(export_id)
        ends, _, _ = token.partition(".")
        if export is None or not ends.isdecimal() or not hmac.compare_digest(self._token(export_id, int(ends)), token):
            return None
        return export.file if now * 1000 < int(ends) else None

    def _url_of(self, export: Export, now: float) -> str:
        ends = math.ceil((now + self._options.export_file_seconds) * 1000)
        self.tokens.append(token := self._token(export.id, ends))
        return f"{self.url}{export.id}?token={token}"

    def _token(self, export_id: str, ends: int) -> str:
        """Return the token of a file until a time, in milliseconds since the epoch."""
        return f"{ends}.{hmac.new(self._secret, f'{export_id} {ends}'.encode(), hashlib.sha256).hexdigest()}"
