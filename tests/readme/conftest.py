"""Fixtures of the README."""

from surroundings import always_defer_at_once, fill_warehouse, mailbox, reports, slack

__all__ = ["always_defer_at_once", "fill_warehouse", "mailbox", "reports", "slack"]
