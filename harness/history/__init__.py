"""A week of nightly syncs, and what its history answers to the questions of ``docs/history-queries.md``."""
