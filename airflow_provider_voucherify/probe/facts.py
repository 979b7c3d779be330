"""What was observed: for each step of the probe its answer, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_voucherify.client.rate_limits import RateLimit
from airflow_provider_voucherify.models.errors import PortableError


@dataclass(frozen=True, slots=True)
class Answered:
    """
    An answer of Voucherify.

    :param status: HTTP status.
    :param body: decoded JSON; None if it was empty, or no JSON.
    """

    status: int
    body: Any = None

    @property
    def refused(self) -> bool:
        """Whether it is an error."""
        return self.status >= 400

    @property
    def member(self) -> Mapping[str, Any]:
        """The members of a JSON object, none of any other body."""
        return self.body if isinstance(self.body, dict) else {}

    def __str__(self) -> str:
        key = self.member.get("key")
        return f"{self.status} {key}" if isinstance(key, str) else str(self.status)


@dataclass(frozen=True, slots=True)
class Missing:
    """
    No answer.

    :param why: for people to read.
    :param asked: whether the step was carried out at all.
    """

    why: str
    asked: bool

    def __str__(self) -> str:
        return self.why


class NoReading(PortableError):
    """
    A question that has no answer.

    :param why: for people to read.
    :param asked: whether what it needs was asked at all.
    """

    def __init__(self, why: str, asked: bool) -> None:
        super().__init__(why)
        self.why, self.asked = why, asked


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The rate-limit headers of one answer.

    :param kind: ``ordinary``, ``bulk`` or ``csv``: what was called.
    """

    kind: str
    headers: RateLimit


class Facts(dict[str, "Answered | Missing"]):
    """The answers of all steps by name, and the rate-limit headers in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[Limits] = []

    def any_answer(self, step: str) -> Answered:
        """
        Return the answer to a step, whatever it is.

        :raises NoReading: it has none.
        """
        fact = self.get(step, Missing("the step before it had no answer", asked=False))
        if isinstance(fact, Missing):
            raise NoReading(fact.why, fact.asked)
        return fact

    def answered(self, step: str) -> Answered:
        """
        Return the answer to a step.

        :raises NoReading: it has none, or one that says nothing of what was sent: the credentials may not do it, or
            something failed on the way.
        """
        answer = self.any_answer(step)
        if answer.status in (401, 402, 403, 408, 429) or answer.status >= 500:
            raise NoReading(f"answered with {answer}", asked=True)
        return answer

    def action(self, request: str) -> Mapping[str, Any]:
        """
        Return the finished async action of a request.

        :raises NoReading: there is none.
        """
        if (answer := self.answered(request)).refused:
            raise NoReading(f"the request was refused ({answer})", asked=True)
        action = self.answered(f"action of {request}")
        if not action.member.get("status"):
            raise NoReading(f"its action could not be read ({action})", asked=True)
        return action.member

    def result(self, request: str) -> Mapping[str, Any]:
        """
        Return the ``result`` of the finished async action of a request; empty if the action has none.

        :raises NoReading: there is no such action.
        """
        result = self.action(request).get("result")
        return result if isinstance(result, dict) else {}

    def metadata(self, step: str) -> Mapping[str, Any] | None:
        """
        Return the metadata of a record that was read, empty if it shows none; None if it shows null.

        :raises NoReading: the record was not read.
        """
        if (answer := self.answered(step)).refused:
            raise NoReading(f"the record could not be read ({answer})", asked=True)
        metadata = answer.member.get("metadata", {})
        return metadata if isinstance(metadata, dict) else None
