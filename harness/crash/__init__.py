"""Killing Airflow's processes at every moment of a sync, and counting what arrived; ``make crash``."""
