"""Whole syncs on a real Airflow, and a search for secrets in everything that they leave; ``python -m leaks.run``."""
