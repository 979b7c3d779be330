"""
The sync engine: rows → checked records → batches → async actions → outcomes. No Airflow, no HTTP.

``sources`` read rows as ``chunks``, ``mapping`` and ``values`` turn them into records, ``plan`` checks them into a
``spool`` on disk and splits that into batches, which ``submission`` sends; from then on they are ``submitted``.
``queue_watch`` decides when to poll which async action (``waits`` has the tasks that wait, ``queue_head`` and
``service_times`` know the queue in its documented order, ``action_list`` in any other). When all are ``finished``,
``report`` and ``settlement`` settle the records of one action, ``collect`` goes through all actions, ``failure_files``
and ``ledger`` record the outcome of each record, and ``totals`` adds up the ``summary``.
"""
