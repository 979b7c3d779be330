"""From finished actions to a summary."""
