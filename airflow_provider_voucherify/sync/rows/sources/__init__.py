"""Where rows come from: lists, cursors and files, all as streams of small chunks of rows with column names."""

from airflow_provider_voucherify.sync.rows.sources.files import from_file, from_files
from airflow_provider_voucherify.sync.rows.sources.in_memory import from_records
from airflow_provider_voucherify.sync.rows.sources.names import check_names_of_values
from airflow_provider_voucherify.sync.rows.sources.query_rows import from_cursor

__all__ = ["check_names_of_values", "from_cursor", "from_file", "from_files", "from_records"]
