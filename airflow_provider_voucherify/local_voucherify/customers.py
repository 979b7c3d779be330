"""What the project knows of customers besides their fields: what happened to them, and their segments."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Segment:
    """
    A segment.

    :param customers: keys of the customers in it.
    """

    id: str
    name: str
    customers: frozenset[str]

    def wire(self) -> dict[str, Any]:
        """Return the segment as a list of a customer's segments shows it."""
        return {"id": self.id, "name": self.name, "object": "segment"}

    @classmethod
    def new(cls, name: str, customers: frozenset[str]) -> Segment:
        """Make a segment with an id of its own."""
        return cls(f"seg_{secrets.token_hex(12)}", name, customers)


@dataclass(slots=True)
class CustomerHistory:
    """What happened to customers, by their key, oldest first."""

    events: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, key: str, event_type: str, at: str, data: Mapping[str, Any] | None = None) -> str:
        """Note that something happened, and return its id."""
        event = {
            "id": f"evcus_{secrets.token_hex(9)}",
            "type": event_type,
            "data": {"data": dict(data or {}), "event_source": {"channel": "API"}},
            "created_at": at,
            "group_id": f"v-{secrets.token_hex(9)}",
        }
        self.events[key].append(event)
        return str(event["id"])

    def forget(self, key: str) -> int:
        """Drop what happened to a customer, and return how much that was."""
        return len(self.events.pop(key, ()))
