"""
Voucherify over httpx, sync and async from one definition; usable without Airflow.

``calls`` and the modules of the resources define the calls, ``auth`` authorises them, ``protocol`` decides how they are
carried out (pacing, retries, errors) without any I/O; ``http`` does the I/O.
"""
