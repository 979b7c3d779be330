"""Thousands of deferred tasks of this provider in one real triggerer; ``python -m load.run`` runs and judges it."""

INSTANCES = 2_001
"""Task instances: 2,000 that wait for Voucherify, and one that measures the event loop they share."""
