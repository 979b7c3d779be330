"""What the provider adds to Airflow's user interface."""
