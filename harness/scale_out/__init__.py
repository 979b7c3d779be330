"""One sync, fanned out over Celery workers of a real Airflow, one of which is killed."""
