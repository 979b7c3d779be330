"""The DAGs of the crash test; Airflow reads this folder."""

BATCHES_OF_A_RUN = 20
RECORDS_OF_A_RUN = 40
