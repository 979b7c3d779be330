"""Rows in: read, mapped, checked, encoded."""
