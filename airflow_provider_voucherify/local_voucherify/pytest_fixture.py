"""
A pytest fixture with a running local Voucherify.

Load it with ``pytest_plugins = ["airflow_provider_voucherify.local_voucherify.pytest_fixture"]``. Options other than
the defaults come from a marker: ``@pytest.mark.local_voucherify(action_seconds=0.1)``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_voucherify.local_voucherify.server import LocalVoucherify


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to pytest."""
    config.addinivalue_line("markers", "local_voucherify(**options): options of the local Voucherify")


@pytest.fixture
def local_voucherify(request: pytest.FixtureRequest) -> Iterator[LocalVoucherify]:
    """Give a started local Voucherify of its own to each test, and stop it afterwards."""
    marker = request.node.get_closest_marker("local_voucherify")
    with LocalVoucherify(**(marker.kwargs if marker is not None else {})) as server:
        yield server
