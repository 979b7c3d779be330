"""``python -m airflow_provider_voucherify.probe``: what ``airflow voucherify probe`` is from Airflow 3.2 on."""

from airflow_provider_voucherify.probe.command import main

if __name__ == "__main__":
    main()
