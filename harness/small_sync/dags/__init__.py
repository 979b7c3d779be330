"""The DAGs whose seconds are counted."""
