"""
The steps in which a call is carried out, and their outcomes.

A generator of steps yields what its client must do (``Send``, ``Sleep``, ``Exclusive``), is sent the outcome, and
returns a value. So everything but the network itself is decided without I/O, once for both clients.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_provider_voucherify.client.calls import Body

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """
    Send a request; the outcome is an ``Answer`` or a ``NoAnswer``.

    :param large: whether a successful answer may be larger than others.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: Body | None
    large: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """
    Do nothing for a while.

    :param seconds: how long.
    :param for_rate_limit: whether this is because of a rate limit, not because of a failure.
    """

    seconds: float
    for_rate_limit: bool = False


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Carry out a sub-generator while no other caller of this connection carries out one; the outcome is its value."""

    steps: Callable[[], Steps[Any]]


Steps = Generator["Send | Sleep | Exclusive", Any, T]


@dataclass(frozen=True, slots=True)
class Answer:
    """
    An HTTP answer.

    :param headers: lower-case names.
    :param body: the decoded body; of an error status, its beginning.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """
    Nothing, or nothing usable, came back.

    :param sent: whether Voucherify may have received the request.
    :param why: one line for people to read, without credentials or query strings.
    """

    sent: bool
    why: str
