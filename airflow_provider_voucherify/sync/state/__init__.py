"""What earlier syncs left, and what becomes of each row."""
