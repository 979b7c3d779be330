"""Fixtures of the example DAGs."""

from surroundings import defer_at_once, fill_warehouse, mailbox, reports, slack

__all__ = ["defer_at_once", "fill_warehouse", "mailbox", "reports", "slack"]
