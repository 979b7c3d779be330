"""
Voucherify over httpx, sync and async from one definition; usable without Airflow.

``calls`` and the modules of the resources say what can be asked, ``auth`` who asks, ``protocol`` how a call is carried
out (pacing, retries, errors) without doing any I/O; ``http`` does the I/O.
"""
