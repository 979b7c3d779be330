"""An Airflow home that is thrown away, set before Airflow is imported."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def throwaway_airflow() -> Iterator[None]:
    """Give Airflow a home of its own, and let only what is worse than errors be logged."""
    with tempfile.TemporaryDirectory(prefix="voucherify-faults-") as home:
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__CORE__UNIT_TEST_MODE="True",
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__LOGGING__LOGGING_LEVEL="CRITICAL",
        )
        logging.disable(logging.CRITICAL)
        yield
