"""What a person sees in Airflow's user interface, from the connection form to the link of a finished sync."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from standalone import Standalone, wait_until

from airflow_provider_voucherify.connection.form import ADVANCED, EXTRA_FIELDS
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from harness.demo import warehouse

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

Picture = Callable[..., None]


def expect(locator: Locator) -> Any:
    """Give Playwright's assertions, which wait for what they assert."""
    from playwright.sync_api import expect

    return expect(locator)


@contextmanager
def connection_form(page: Page, button: str) -> Iterator[Locator]:
    """Open the form with a button, and save it in the end."""
    page.goto("/connections")
    page.get_by_role("button", name=button).click()
    form = page.get_by_role("dialog")
    yield form
    form.get_by_role("button", name="Save").click()
    expect(form).not_to_be_visible()


def press_test(page: Page) -> Locator:
    """Press the Test button of the only connection and return the message that appears."""
    page.goto("/connections")
    page.get_by_role("button", name="Test Connection").click()
    return page.get_by_role("status").filter(has_text="Test Connection")


def test_a_connection_is_made_in_the_form_and_tested(page: Page, voucherify: LocalVoucherify, picture: Picture) -> None:
    url = urlsplit(voucherify.base_url)
    with connection_form(page, "Add Connection") as form:
        form.get_by_label("Connection ID").fill("voucherify_default")
        form.get_by_role("combobox").fill("Voucherify")
        page.keyboard.press("Enter")
        picture("connection-form")
        form.get_by_label("API URL or region").fill(f"http://{url.hostname}")
        form.get_by_label("Port").fill(str(url.port))
        form.get_by_label("Application ID").fill(voucherify.options.app_id)
        secret_key = form.get_by_label("Secret key")
        secret_key.fill("not-the-secret-key")
        expect(secret_key).to_have_attribute("type", "password")
        expect(form.get_by_label("Schema")).to_have_count(0)
        form.get_by_role("button", name="Extra Fields", exact=True).click()
        choice = form.get_by_label(EXTRA_FIELDS["auth_method"].label)
        choice.focus()
        page.keyboard.press("ArrowDown")
        expect(page.get_by_role("option")).to_have_text(["API keys", "OAuth 2.0"])
        picture("connection-authentication")
        page.keyboard.press("Enter")
        form.get_by_role("button", name=ADVANCED).click()
        for field in EXTRA_FIELDS.values():
            expect(form.get_by_text(field.help)).to_have_count(1)

    message = press_test(page)
    expect(message).to_contain_text("Test Connection Failed")
    expect(message).to_contain_text(f"Wrong key or wrong region: {voucherify.base_url} does not accept")
    picture("test-wrong-key")

    with connection_form(page, "Edit Connection") as form:
        form.get_by_label("Secret key").fill(voucherify.options.secret_key)
    message = press_test(page)
    expect(message).to_contain_text("Test Connection Successful")
    expect(message).to_contain_text(f"Voucherify at {voucherify.base_url} accepts these credentials.")
    picture("test-right-key")


def test_an_example_is_triggered_deferred_and_done_and_leads_to_voucherify(
    page: Page, voucherify: LocalVoucherify, picture: Picture
) -> None:
    page.goto("/dags/demo_nightly_sync")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    page.wait_for_url(re.compile("/dags/demo_nightly_sync/runs/[^/?]+"))
    run = urlsplit(page.url).path
    tasks = {task: page.get_by_role("row").filter(has_text=task) for task in ("sync_customers", "wait_for_voucherify")}
    expect(tasks["sync_customers"]).to_contain_text("Success", timeout=90_000)
    expect(tasks["wait_for_voucherify"]).to_contain_text("Deferred", timeout=90_000)
    picture("run-deferred")

    page.goto(f"{run}/tasks/wait_for_voucherify/details")
    link = page.get_by_role("link", name="Async actions in Voucherify")
    expect(link).to_be_visible()
    expect(page.get_by_test_id("header-card")).to_contain_text("Success", timeout=120_000)
    with page.expect_popup() as opened:
        link.click()
    assert opened.value.url == f"{voucherify.base_url}/v1/async-actions"
    opened.value.close()
    picture("extra-links")
    assert len(voucherify.customers) == warehouse.CUSTOMERS

    page.goto(f"{run}/tasks/wait_for_voucherify")
    expect(page.get_by_text("3,000 created, 6 failed")).to_be_visible()
    picture("log-of-the-sensor", "virtual-scroll-container")
    page.goto(f"{run}/tasks/sync_customers")
    page.get_by_text("Sending 4 requests").click()
    expect(page.get_by_text("4 of 4: sent batch")).to_be_visible()
    page.keyboard.press("w")  # wraps long lines
    picture("log-of-the-operator")
    page.goto(f"{run}/tasks/sync_customers/rendered_templates")
    expect(page.get_by_text("SELECT * FROM customers")).to_be_visible()
    picture("rendered-templates")


def test_the_link_of_a_task_that_was_killed_while_it_waited(
    page: Page, airflow: Standalone, voucherify: LocalVoucherify
) -> None:
    voucherify.next_actions(stuck="IN_PROGRESS")
    run = "/dags/waits_on_a_worker/runs/killed"
    airflow.cli("dags", "trigger", "waits_on_a_worker", "--run-id", "killed")
    shown = (
        "SELECT 1 FROM xcom WHERE dag_id = 'waits_on_a_worker' AND key = 'voucherify_dashboard_url' AND value != '\"\"'"
    )
    wait_until(lambda: bool(airflow.rows(shown)), 60)

    ((pid,),) = airflow.rows("SELECT pid FROM task_instance WHERE dag_id = 'waits_on_a_worker'")
    os.kill(pid, signal.SIGKILL)

    page.goto(f"{run}/tasks/sync/details")
    expect(page.get_by_test_id("header-card")).to_contain_text("Failed", timeout=60_000)
    link = page.get_by_role("link", name="Async actions in Voucherify")
    expect(link).to_have_attribute("href", f"{voucherify.base_url}/v1/async-actions")

    page.goto(f"{run}/tasks/sync/rendered_templates")
    expect(page.get_by_text("<1 record, not shown>")).to_be_visible()
    expect(page.get_by_text("row-do-not-show")).to_have_count(0)
    expect(page.get_by_text(voucherify.options.secret_key)).to_have_count(0)


def test_the_page_of_all_syncs_shows_what_arrived_and_why_rows_failed(
    page: Page, airflow: Standalone, voucherify: LocalVoucherify
) -> None:
    problems: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))

    page.goto("/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_text("Voucherify syncs").click()
    row = page.get_by_role("row").filter(has_text="demo_nightly_sync.wait_for_voucherify")
    expect(row).to_contain_text("success")
    expect(row).to_contain_text("6 (0.2 %)")
    expect(row.get_by_role("img").first).to_have_attribute("aria-label", "3,000 created, 6 failed")
    expect(page.get_by_role("row").nth(1)).to_contain_text("waits_on_a_worker")  # failed: what needs attention is first
    queued = page.get_by_role("row").filter(has_text="demo_nightly_sync.sync_customers").get_by_role("img").first
    expect(queued).to_have_attribute("aria-label", re.compile("6 refused, .*3,006 queued"))
    page.get_by_label("Filter by DAG or task").fill("demo_")
    expect(page.get_by_role("row").filter(has_text="waits_on_a_worker")).to_have_count(0)

    page.get_by_role("link", name="demo_nightly_sync.wait_for_voucherify").click()
    expect(page.get_by_role("heading", name="Why rows failed")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="metadata_validation_failed").first).to_be_visible()
    expect(page.get_by_role("heading", name="What now")).to_be_visible()
    page.get_by_role("link", name="Log in Airflow").click()
    expect(page.get_by_text("3,000 created, 6 failed")).to_be_visible()

    assert hosts - {""} == {urlsplit(airflow.url).netloc}  # what has none is in the page itself
    assert [text for text in problems if "404" not in text] == []
