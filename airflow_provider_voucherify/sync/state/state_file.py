"""
The state of earlier syncs as one file: a line of JSON that says what it is, then an SQLite file.

The line has the version of the format, the resource, the SHA-256 of the rest, and a text that no other file has
(``written``), by which a run sees that another one has written in the meantime; and which run that was (``run``), so
that a retry sees it too. A file that is damaged or of another version is not used: then every row is sent again. Under
which settings (project, mapping, null policy, constant metadata) a record was made is said record by record, by a
digest, so a changed setting makes rows be sent again too.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import IO

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.state.ledger import Ledger

FORMAT = "voucherify-sync-state"
VERSION = 3

_MAX_HEAD = 10_000
_BYTES_PER_READ = 1_048_576


def write_state(ledger: Ledger, resource: str, sync_name: str, file: IO[bytes]) -> str:
    """
    Write the state of a ledger into a file.

    :param resource: of the records.
    :param sync_name: whose state it is.

    :returns: what tells the file from every other, as ``name_of_state`` reads it.
    """
    head: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "resource": resource,
        "sync": sync_name,
        "run": ledger.run,
        "sha256": ledger.digest_of_state(),
        "written": uuid.uuid4().hex,
    }
    file.write(json.dumps(head).encode() + b"\n")
    ledger.save_state(file)
    return _name_of(head)


def read_state(ledger: Ledger, resource: str, sync_name: str, file: IO[bytes]) -> str:
    """
    Take the state of a local file over into a ledger.

    :param resource: of the records.
    :param sync_name: whose state it has to be.

    :returns: what tells the file from every other, as ``name_of_state`` reads it.
    :raises ValueError: the file is damaged or of another version; the ledger's state is empty then.
    :raises VoucherifyConfigurationError: it is the state of another sync or resource. Two syncs that share a file would
        take each other's records for removed.
    """
    head = _head(file.readline(_MAX_HEAD))
    if (other := head.get("resource")) != resource:
        raise VoucherifyConfigurationError(f"the file is the state of a sync of {other}, and not of {resource}")
    if (other := head.get("sync")) != sync_name:
        raise VoucherifyConfigurationError(
            f"the file is the state of the sync {other!r}, and not of {sync_name!r}: give this task a state of its "
            "own, or both the same sync_name if they send the same records"
        )
    begin = file.tell()
    digest = hashlib.sha256()
    while piece := file.read(_BYTES_PER_READ):
        digest.update(piece)
    if digest.hexdigest() != head.get("sha256"):
        raise ValueError("it is damaged")
    file.seek(begin)
    ledger.use_state(file)
    return _name_of(head)


def name_of_state(line: bytes) -> str:
    """Return what tells a file of state from every other, by its first line; an empty text if it is none."""
    try:
        return _name_of(_head(line))
    except ValueError:
        return ""


def writer_of(line: bytes) -> str:
    """Return the run that has written a file of state, by its first line; an empty text if that is not known."""
    try:
        return str(_head(line).get("run", ""))
    except ValueError:
        return ""


def _name_of(head: dict[str, object]) -> str:
    return str(head.get("written", head.get("sha256")))  # files of earlier versions of this package have the latter


def _head(line: bytes) -> dict[str, object]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not the state of a sync, or its beginning is damaged") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError("it is not the state of a sync")
    if head.get("version") != VERSION:
        raise ValueError(f"it has version {head.get('version')!r}, and this provider knows version {VERSION}")
    return head
