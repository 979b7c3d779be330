"""When to poll which action."""
