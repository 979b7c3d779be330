"""What ``hide_values`` leaves out of what people read: ids are hashed, and texts that may quote a value are cut."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import replace

import msgspec

from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import ActionOutcome, RowOutcome

HIDDEN = "hidden"
"""What stands for a text that is left out."""

HASHED_CHARACTERS = 16

_KEY = re.compile(r"[a-z][a-z0-9_.]{0,99}")
_QUOTES = re.compile(r"""["'(;]|,? actual value""")
"""Where a text of this package may begin to quote a value."""

_ROUNDS = 100_000
"""Of PBKDF2: some 50 ms, which makes guessing a short secret key by its hashes slow."""


class Hiding:
    """
    Hides ids and values.

    An id becomes a hash that stays the same for as long as the key does, so that the same record is recognised night
    by night, and looked up by those who have the key; who has not cannot find it out by hashing likely ids.

    :param key: of the hashes; None hides ids altogether.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @classmethod
    def of_project(cls, application_id: str, secret_key: str) -> Hiding:
        """Return how the ids of a project are hidden: by a key that is derived from its own, slowly."""
        salt = b"airflow_provider_voucherify hide_values " + application_id.encode()
        return cls(hashlib.pbkdf2_hmac("sha256", secret_key.encode(), salt, _ROUNDS))

    def id(self, record_id: str) -> str:
        """Return what stands for an id."""
        if self._key is None:
            return HIDDEN
        digest = hmac.new(self._key, record_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"#{digest[:HASHED_CHARACTERS]}"

    def failure(self, failure: Failure) -> Failure:
        """Return a failure without what is in its record."""
        return replace(self.texts(failure), id=None if failure.id is None else self.id(failure.id))

    def texts(self, failure: Failure) -> Failure:
        """Return a failure with its id, but without what its texts may quote."""
        key, message = _hidden_texts(failure.outcome, failure.key, failure.message)
        return replace(failure, key=key, message=message, details=None, hint=None)

    def action(self, outcome: ActionOutcome) -> ActionOutcome:
        """Return what became of a batch with its records' ids, but without what texts may quote."""
        failures = {record_id: self.texts(failure) for record_id, failure in outcome.failures.items()}
        unnamed = None if outcome.unnamed_reason is None else self.texts(outcome.unnamed_reason)
        return replace(outcome, failures=failures, unnamed_reason=unnamed)

    def outcome(self, outcome: RowOutcome) -> RowOutcome:
        """Return what became of a row without what is in it."""
        key, message = _hidden_texts(outcome.outcome, outcome.key, outcome.message)
        record_id = None if outcome.id is None else self.id(outcome.id)
        return msgspec.structs.replace(outcome, id=record_id, key=key, message=message, details=None, content=None)


def _hidden_texts(outcome: str, key: str | None, message: str | None) -> tuple[str | None, str | None]:
    """
    Return key and message of a reason without what they may quote.

    Voucherify's own messages may quote anything and are left out; those of this package quote values in a known way;
    that of a record which differs names fields alone.
    """
    if key is not None and not _KEY.fullmatch(key):
        key = HIDDEN
    if outcome == "differing":
        return key, message
    if message is None or outcome not in ("refused", "superseded"):
        return key, None
    return key, _QUOTES.split(message, maxsplit=1)[0].strip() or None
