"""Where the seconds of a small sync go, on a real Airflow."""
