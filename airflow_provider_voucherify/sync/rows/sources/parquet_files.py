"""Rows of Parquet files; needs the extra ``parquet``."""

from __future__ import annotations

from typing import IO, Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import CHUNK_BYTES, ROWS_PER_CHUNK, Chunk, Rows
from airflow_provider_voucherify.sync.rows.sources.arrow import arrow_values

BYTES_PER_READ = 65_536
"""Bytes to read ahead per column: otherwise pyarrow would keep columns of a row group, or of the file, in memory."""


def from_parquet(file: IO[bytes], name: str) -> Rows:
    """
    Read a file, a few rows at a time.

    :raises VoucherifyConfigurationError: while reading, if pyarrow is not installed or cannot read the file.
    """
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise VoucherifyConfigurationError(
            "reading .parquet needs pyarrow: pip install 'airflow-provider-voucherify[parquet]'"
        ) from None
    try:
        source = parquet.ParquetFile(file, pre_buffer=False, buffer_size=BYTES_PER_READ)
        for batch in source.iter_batches(batch_size=_rows_per_batch(source.metadata), use_threads=False):
            columns = [arrow_values(column) for column in batch.columns]
            yield Chunk(tuple(batch.schema.names), list(zip(*columns, strict=True)))
        if not source.metadata.num_rows:
            yield Chunk(tuple(source.schema_arrow.names), ())
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # errors of the disk; pyarrow's own have no errno
            raise
        raise VoucherifyConfigurationError(f"{name} cannot be read: {error}") from None


def _rows_per_batch(metadata: Any) -> int:
    """Return how many rows to read at a time: fewer if a row group says that its rows are large."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=0)
    return max(1, min(ROWS_PER_CHUNK, int(CHUNK_BYTES / max(widest, 1))))
