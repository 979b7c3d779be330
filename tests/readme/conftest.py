"""Fixtures of the README and the pages."""

from database_fixtures import mariadb, postgres
from surroundings import always_defer_at_once, fill_warehouse, mailbox, reports, slack

__all__ = ["always_defer_at_once", "fill_warehouse", "mailbox", "mariadb", "postgres", "reports", "slack"]
