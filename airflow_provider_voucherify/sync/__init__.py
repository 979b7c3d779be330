"""
The sync engine: rows → checked records → batches → async actions → outcomes. No Airflow, no HTTP.

``sources`` read rows as ``chunks``, ``mapping`` and ``values`` turn them into records, ``plan`` checks them into a
``spool`` on disk and cuts that into batches, which ``submission`` sends; what is known of them then is ``submitted``.
``queue_watch`` says when to look at which async action (``waits`` are those who wait, ``queue_head`` and
``service_times`` know the queue in its documented order, ``action_list`` in any other). When all are ``finished``,
``report`` and ``settlement`` say what became of the records of one, ``outcomes`` goes through them, ``failure_files``
and ``ledger`` write down what became of each record, and ``totals`` adds up the ``summary``.
"""
