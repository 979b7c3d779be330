"""Whole syncs on a real Airflow, and a search for secrets in what they leave: ``python -m harness.leaks.run``."""
