"""Digests that identify bodies, and ids and records read back from the body of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from types import GenericAlias
from typing import Any

import msgspec

from airflow_provider_voucherify.models.endpoints import BulkEndpoint

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def digest_of(path: str, body: Iterable[bytes]) -> str:
    """Return a digest that identifies a request: 32 hexadecimal digits for its path and body."""
    digest = blake2b(path.encode() + b"\n", digest_size=16)
    for piece in body:
        digest.update(piece)
    return digest.hexdigest()


def ids_of(body: bytes, endpoint: BulkEndpoint) -> list[str]:
    """Read the ids back from the body of a batch."""
    if endpoint.ids_field is not None:
        ids: list[str] = msgspec.json.decode(body, type=_only_ids(endpoint.ids_field)).ids
        return ids
    return [record.id for record in msgspec.json.decode(body, type=GenericAlias(list, (_only_id(endpoint.key),)))]


@cache
def _only_id(key: str) -> Any:
    return msgspec.defstruct("only_id", [("id", str)], rename={"id": key}, gc=False)


@cache
def _only_ids(ids_field: str) -> Any:
    return msgspec.defstruct("only_ids", [("ids", list[str])], rename={"ids": ids_field}, gc=False)


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
