"""
Failed and refused records, as lines of ``failures.jsonl``: readable by a person, and by ``path=``.

A line is the record with one more member, ``_failure``::

    {"source_id": "c1", "name": "Ann", "_failure": {"form": "record", "outcome": "failed", "key": "invalid_payload", …}}

``form`` is ``record`` where the other members are the record as it was sent, and ``row`` where they are the source's
columns (a refused row): reading the file again applies the mapping to rows and not to records. Columns whose values
have no JSON form (NaN, say) are shown as text and named in ``as_text``: they are refused again until they are mended
and no longer named there, so that the text is never sent for the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec

from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.sync.sources import FAILURE_MEMBER, LOST_MEMBER
from airflow_provider_voucherify.sync.values import has_json_form, json_safe, json_safe_text

MAX_TEXT = 500
"""Characters of a message that are kept: an error text of any size must not swell logs or XComs."""

_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=json_safe_text).encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One record that was not updated, and why.

    :param outcome: ``failed`` at Voucherify or ``refused`` before sending.
    :param id: the record's ``source_id`` or ``code``; None where it has none, or the API does not name it.
    :param key: kind of the reason: the API's error key, or one of ours (see ``mapping.RefusedRowError``).
    :param row: the row's place in the source, from 1; only of refused rows.
    """

    outcome: Literal["failed", "refused"]
    id: str | None
    key: str | None
    message: str | None
    details: str | None = None
    async_action_id: str | None = None
    row: int | None = None

    def sample(self) -> dict[str, Any]:
        """Return what a summary shows of the failure."""
        shown = {name: shortened(getattr(self, name)) for name in ("id", "key", "message", "details")}
        return {"outcome": self.outcome, **shown}


def shortened(text: str | None) -> str | None:
    """Return at most ``MAX_TEXT`` characters of a text, on one line, without control characters."""
    if text is None:
        return None
    line = "".join(c if c.isprintable() else " " for c in json_safe_text(text[: MAX_TEXT + 1]))
    return line if len(text) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def failure_line(failure: Failure, form: Literal["record", "row", "id"], content: Mapping[str, Any]) -> bytes:
    """
    Encode one line of ``failures.jsonl``.

    :param form: what ``content`` is: the record as sent, the source's row, or nothing but a record's id.
    """
    told = {name: value for name, value in asdict(failure).items() if value is not None}
    for name in ("message", "details"):
        if name in told:
            told[name] = shortened(told[name])
    line = {json_safe_text(name): json_safe(value) for name, value in content.items()}
    if lost := [json_safe_text(name) for name, value in content.items() if not has_json_form(value)]:
        told[LOST_MEMBER] = lost
    line[FAILURE_MEMBER] = {"form": form, **told}
    return _encode(line) + b"\n"


def records_of(body: bytes, endpoint: BulkEndpoint) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Read the records back from the body of a batch: (id, record) pairs.

    :param body: what was sent to the endpoint; a list of ids with one metadata object gives one record per id.
    """
    if endpoint.ids_field is None:
        for raw in msgspec.json.decode(body, type=list[msgspec.Raw]):
            record = _decode(raw)
            yield record[endpoint.key], record
    else:
        sent = _decode(body)
        for record_id in sent[endpoint.ids_field]:
            yield record_id, {endpoint.key: record_id, "metadata": sent["metadata"]}
