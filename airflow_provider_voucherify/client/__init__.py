"""
Voucherify over httpx, sync and async from one definition; usable without Airflow.

``calls`` says what can be asked, ``protocol`` how a call is carried out (authorisation, retries, errors) without
doing any I/O, ``http`` does the I/O.
"""
