"""Thousands of deferred tasks in one real triggerer: ``python -m harness.load.run`` runs and judges them."""

INSTANCES = 2_001
"""Task instances: 2,000 that wait for Voucherify, and one that measures the event loop they share."""
