"""Outcomes as a file: JSON lines, CSV or Parquet, a row per row of the source."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from operator import attrgetter
from pathlib import PurePosixPath
from typing import IO, Any

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.types.outcome import RowOutcome

COLUMNS = RowOutcome.__struct_fields__

_ROWS_PER_WRITE = 10_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_values = attrgetter(*COLUMNS)


def write_outcomes(outcomes: Iterable[RowOutcome], name: str, file: IO[bytes]) -> None:
    """
    Write outcomes into a file.

    In CSV, text that a spreadsheet would take for a formula gets an apostrophe before it; the other formats have every
    id as it is.

    :param name: the file's name or URI, which ends in ``.jsonl``, ``.csv`` or ``.parquet``.
    """
    writers = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
    writers[PurePosixPath(name).suffix](outcomes, file)


def _write_jsonl(outcomes: Iterable[RowOutcome], file: IO[bytes]) -> None:
    encode = msgspec.json.Encoder().encode_lines
    for some in _some(outcomes):
        file.write(encode(some))


def _write_csv(outcomes: Iterable[RowOutcome], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for some in _some(outcomes):
        rows.writerows([_harmless(value) for value in _values(outcome)] for outcome in some)
    text.flush()
    text.detach()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def check_format(name: str) -> None:
    """
    See whether ``write_outcomes`` can write a file of that name.

    :raises VoucherifyConfigurationError: a package is missing.
    """
    if name.endswith(".parquet") and find_spec("pyarrow") is None:
        raise VoucherifyConfigurationError(
            "writing .parquet needs pyarrow: pip install 'airflow-provider-voucherify[parquet]'"
        )


def _write_parquet(outcomes: Iterable[RowOutcome], file: IO[bytes]) -> None:
    import pyarrow  # type: ignore[import-untyped,unused-ignore]
    from pyarrow import parquet  # type: ignore[import-untyped,unused-ignore]

    schema = pyarrow.schema([(name, pyarrow.int64() if name == "row" else pyarrow.string()) for name in COLUMNS])
    with parquet.ParquetWriter(file, schema) as writer:
        for some in _some(outcomes):
            columns = list(zip(*map(_values, some), strict=True))
            writer.write_table(pyarrow.table(dict(zip(COLUMNS, columns, strict=True)), schema=schema))


def _some(outcomes: Iterable[RowOutcome]) -> Iterator[list[RowOutcome]]:
    rest = iter(outcomes)
    while some := list(islice(rest, _ROWS_PER_WRITE)):
        yield some
