"""The demo of ``make demo``: a warehouse, a local Voucherify, and a DAG of ``dags_examples`` between the two."""
