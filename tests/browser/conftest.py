"""A real Airflow with a local Voucherify behind it and a headless Chromium in front."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from example_dags import EXAMPLES
from standalone import Standalone

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from harness.demo import warehouse

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

ACTION_SECONDS = 7
"""Four of them take 28 s: well beyond the seconds for which a task looks from its worker before it is deferred."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="replace the pictures in docs/images")


@pytest.fixture(scope="module")
def voucherify() -> Iterator[LocalVoucherify]:
    options = {"action_seconds": ACTION_SECONDS, "metadata_schemas": warehouse.METADATA_SCHEMAS}
    with LocalVoucherify(**options) as voucherify:
        yield voucherify


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, voucherify: LocalVoucherify) -> Iterator[Standalone]:
    """
    Airflow with two DAGs: the demo's, and one whose task waits on a worker for ever.

    There is no connection ``voucherify_default`` yet: that is for the form. The second DAG's is in the environment.
    """
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(EXAMPLES / "demo_nightly_sync.py", home / "dags")
    shutil.copy(Path(__file__).parent / "waits_on_a_worker.py", home / "dags")
    warehouse.build(home / "warehouse.sqlite")
    keys = {"login": voucherify.options.app_id, "password": voucherify.options.secret_key}
    environment = {
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(home / "warehouse.sqlite")}),
        "AIRFLOW_CONN_FROM_ENVIRONMENT": json.dumps({"conn_type": "voucherify", "host": voucherify.base_url, **keys}),
        "AIRFLOW_VAR_VOUCHERIFY_REPORTS": str(home / "reports"),
    }
    with Standalone(home, environment) as airflow:
        airflow.wait_for_dag("demo_nightly_sync")
        airflow.wait_for_dag("waits_on_a_worker")
        airflow.wait_for_api()
        yield airflow


@pytest.fixture(scope="module")
def page(airflow: Standalone) -> Iterator[Page]:
    """Chromium, as Debian packages it, on Airflow's start page."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "there is no chromium; on Debian: apt-get install chromium"
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
        page = browser.new_page(base_url=airflow.url, viewport={"width": 1200, "height": 800}, locale="en")
        page.goto("/")
        yield page


@pytest.fixture(scope="module")
def picture(page: Page, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Give a function that pictures the page, or a part of it, for the documentation, where that is asked for."""

    def picture(name: str, part: str | None = None) -> None:
        if request.config.getoption("screenshots"):
            IMAGES.mkdir(exist_ok=True)
            page.wait_for_timeout(700)  # for what fades in or slides open
            shown = page if part is None else page.get_by_test_id(part)
            shown.screenshot(path=IMAGES / f"{name}.png", animations="disabled")

    return picture
