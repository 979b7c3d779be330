"""
The state of earlier syncs as one file: a line of JSON that says what it is, then an SQLite file.

The line has the version of the format, the resource and the SHA-256 of the rest. A file that is damaged or of another
version is not used: then every row is sent again. Under which settings (project, mapping, null policy, constant
metadata) a record was made is said record by record, by a digest, so a changed setting makes rows be sent again too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.destination import Destination
from airflow_provider_voucherify.sync.ledger import PROJECT_CHARACTERS, Ledger
from airflow_provider_voucherify.sync.mapping import MappingRules

FORMAT = "voucherify-sync-state"
VERSION = 1

_LONGEST_HEAD = 10_000


def settings_digest(project: str, destination: Destination, rules: MappingRules) -> str:
    """
    Return a digest of everything but the rows that decides what Voucherify has after a sync.

    Its first characters are those of a digest of the project alone.

    :param project: where records go to; another project has none of the records that this one has.
    """
    null_policy = rules.null_policy if isinstance(rules.null_policy, str) else sorted(rules.null_policy.items())
    parts = [
        project,
        destination.endpoint.path,
        destination.form.suffix.decode(),
        None if rules.mapping is None else sorted(rules.mapping.items()),
        None if rules.metadata_columns is None else sorted(rules.metadata_columns),
        sorted(rules.exclude_columns),
        null_policy,
    ]
    digests = [hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in (project, parts)]
    return (digests[0][:PROJECT_CHARACTERS] + digests[1])[:32]


def write_state(ledger: Ledger, resource: str, sync_name: str, path: Path) -> str:
    """
    Write the state of a ledger to a new local file.

    :param resource: of the records.
    :param sync_name: whose state it is.

    :returns: the SHA-256 of what is in it, which tells it from every other state.
    """
    with TemporaryDirectory(prefix="voucherify-") as folder:
        state = Path(folder, "state")
        ledger.save_state(state)
        with state.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            source.seek(0)
            head = {"format": FORMAT, "version": VERSION, "resource": resource, "sync": sync_name, "sha256": digest}
            with path.open("wb") as file:
                file.write(json.dumps(head).encode() + b"\n")
                shutil.copyfileobj(source, file)
    return digest


def read_state(ledger: Ledger, resource: str, sync_name: str, path: Path) -> str:
    """
    Take the state of a local file over into a ledger.

    :param resource: of the records.
    :param sync_name: whose state it has to be.

    :returns: the SHA-256 of what is in it, as ``write_state`` gave it.
    :raises ValueError: the file is damaged or of another version; the ledger's state is empty then.
    :raises VoucherifyConfigurationError: it is the state of another sync or resource. Two syncs that share a file would
        take each other's records for removed.
    """
    with TemporaryDirectory(prefix="voucherify-") as folder, path.open("rb") as file:
        head = _head(file.readline(_LONGEST_HEAD))
        if (found := head.get("resource")) != resource:
            raise VoucherifyConfigurationError(f"state_path is the state of a sync of {found}, and not of {resource}")
        if (found := head.get("sync")) != sync_name:
            raise VoucherifyConfigurationError(
                f"state_path is the state of the sync {found!r}, and not of {sync_name!r}: give this task a file of its"
                " own, or give both the same sync_name= if they send the same records"
            )
        state = Path(folder, "state")
        with state.open("w+b") as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            digest = hashlib.file_digest(copy, "sha256").hexdigest()
        if digest != head.get("sha256"):
            raise ValueError("it is damaged")
        ledger.use_state(state)
    return digest


def state_of(line: bytes) -> str:
    """Return the SHA-256 that the first line of a file of state gives; an empty text where it gives none."""
    try:
        return str(_head(line).get("sha256"))
    except ValueError:
        return ""


def _head(line: bytes) -> dict[str, object]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is no state of a sync, or its beginning is damaged") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError("it is no state of a sync")
    if head.get("version") != VERSION:
        raise ValueError(f"it has version {head.get('version')!r}, and this provider knows version {VERSION}")
    return head
