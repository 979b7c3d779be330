"""
Voucherify's async action, read tolerantly, as is its result (``bulk_result``).

The vendor's own examples contradict the schema, several shapes are live (``result`` has changed over the years)
and no field is marked required, so everything but the id may be absent and unknown fields are ignored.
Source: documentation/openapi/async-actions.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from airflow_provider_voucherify.models.partial_json import elements, kind, members, scalar
from airflow_provider_voucherify.models.tolerant import Count, Flag, Text, Word

MAX_LISTED_ACTIONS = 1_000
"""Actions that are read of one page of the list; the API returns at most 100."""


def _object_json_or_none(value: object) -> bytes | None:
    """Return an object as JSON, whether it is decoded or not."""
    if isinstance(value, msgspec.Raw | bytes):
        return bytes(value) if kind(value) == b"{" else None
    return msgspec.json.encode(value) if isinstance(value, Mapping) else None


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class AsyncAction(_Answer):
    """
    An async action: a job in Voucherify's queue.

    :param status: ``ENQUEUED``, ``IN_PROGRESS``, ``DONE`` or ``FAILED``; any other word counts as "not finished".
    :param operation_status: ``SUCCESS``, ``FAILED`` or ``UNKNOWN``; absent in older actions.
    :param progress: percent, 0 to 100.
    :param processing_time: milliseconds.
    :param result_json: the result as it came; absent in lists and before the end. It is decoded only when it is read,
        since decoded JSON can take a hundred times the memory.
    """

    id: str = Field(min_length=1)
    type: Word = None
    status: Word = None
    operation_status: Word = None
    progress: Count = None
    processing_time: Count = None
    created_at: Text = None
    updated_at: Text = None
    request_id: Text = None
    result_json: Annotated[bytes | None, BeforeValidator(_object_json_or_none)] = Field(
        default=None, alias="result", repr=False
    )

    @property
    def result(self) -> dict[str, Any] | None:
        """The whole result, decoded anew each time; its form depends on ``type``."""
        return None if self.result_json is None else msgspec.json.decode(self.result_json, type=dict[str, Any])

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen. ``DONE`` is not success: see ``sync.results.settlement``."""
        return self.status in ("DONE", "FAILED")


class AsyncActionList(_Answer):
    """
    One page of ``GET /v1/async-actions``, newest first; its actions have no ``result``.

    :param has_more: whether older ones follow; the vendor's own example answer lacks it.
    """

    async_actions: list[AsyncAction]
    has_more: Flag = None

    @property
    def is_last(self) -> bool:
        """Whether nothing older follows; a page that does not say so is the last one only if it is empty."""
        return not self.async_actions or self.has_more is False


class _Wire(msgspec.Struct):
    """Members of a JSON object that have not been decoded yet; other members are skipped."""

    id: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    status: msgspec.Raw = msgspec.Raw()
    operation_status: msgspec.Raw = msgspec.Raw()
    progress: msgspec.Raw = msgspec.Raw()
    processing_time: msgspec.Raw = msgspec.Raw()
    created_at: msgspec.Raw = msgspec.Raw()
    updated_at: msgspec.Raw = msgspec.Raw()
    request_id: msgspec.Raw = msgspec.Raw()


class _WireAction(_Wire):
    result: msgspec.Raw = msgspec.Raw()


class _WireList(msgspec.Struct):
    async_actions: msgspec.Raw = msgspec.Raw()
    has_more: msgspec.Raw = msgspec.Raw()


def decode_action(answer: bytes) -> object:
    """
    Decode the answer of ``GET /v1/async-actions/{id}`` as far as ``AsyncAction`` needs it.

    :returns: a dict, or None if the answer is JSON of another kind.
    :raises msgspec.DecodeError: it is not JSON.
    """
    action = members(answer, _WireAction)
    return None if action is None else _scalars(action) | {"result": action.result}


def decode_status(answer: bytes) -> object:
    """Decode the same answer without the result, of which nothing is kept in memory."""
    action = members(answer, _Wire)
    return None if action is None else _scalars(action)


def decode_action_list(answer: bytes) -> object:
    """Decode the answer of ``GET /v1/async-actions`` as far as ``AsyncActionList`` needs it."""
    page = members(answer, _WireList)
    if page is None:
        return None
    decoded: dict[str, object] = {"has_more": scalar(page.has_more)}
    if kind(page.async_actions) == b"[":
        listed = islice(elements(page.async_actions), MAX_LISTED_ACTIONS)
        decoded["async_actions"] = [decode_status(action) for action in listed]
    return decoded


def _scalars(wire: msgspec.Struct) -> dict[str, object]:
    """Decode the members that are present."""
    raw = {name: getattr(wire, name) for name in _Wire.__struct_fields__}
    return {name: scalar(value) for name, value in raw.items() if kind(value)}
