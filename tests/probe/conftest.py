"""Local Voucherifys for the tests of the probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from connections import APP_ID, SECRET_KEY

from airflow_provider_voucherify.local_voucherify import LocalVoucherify


@pytest.fixture
def open_shop() -> Iterator[Callable[..., LocalVoucherify]]:
    """Give a function that starts a local Voucherify with options."""
    with ExitStack() as cleanup:
        yield lambda **options: cleanup.enter_context(LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, **options))
