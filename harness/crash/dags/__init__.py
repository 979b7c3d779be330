"""The DAGs of the crash test; Airflow reads this folder."""

BATCHES_OF_A_RUN = 20
RECORDS_OF_A_RUN = 40
RETRIES = 6
RETRIES_FILE = "VOUCHERIFY_CRASH_RETRIES"
"""Environment variable with the path of the file that says how many retries the DAG ``crash_lowered`` has."""
