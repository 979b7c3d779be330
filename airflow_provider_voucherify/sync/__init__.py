"""
The sync engine: rows → checked records → batches → async actions → outcomes. No Airflow, no HTTP.

``sources`` reads rows, ``mapping`` and ``values`` turn them into records, ``plan`` checks them into a ``spool`` on disk
and cuts that into batches. ``queue_watch`` says when to look at which async action (``waits`` are those who wait,
``queue_head`` and ``service_times`` know the queue in its documented order, ``action_list`` in any other); ``report``
and ``settlement`` say what became of its records, ``outcomes`` adds that up over all actions; ``failures`` and
``summary`` tell it.
"""
