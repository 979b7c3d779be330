"""
The sync engine: rows → checked records → batches → async actions → outcomes. No Airflow, no HTTP.

``sources`` reads rows, ``mapping`` and ``values`` turn them into records, ``plan`` checks them into a ``spool`` on disk
and cuts that into batches. ``waiting`` says when to look at an async action; ``report`` and ``settlement`` say what
became of its records, ``outcomes`` adds that up over all actions; ``failures`` and ``summary`` tell it.
"""
